/**
 * A span of time in a configuration: text with a unit such as `"500ms"`, `"30s"` or `"1h 30min"`, or a plain number of
 * milliseconds. Snapshots and events never carry this type, their durations are numbers of milliseconds.
 */
export type Duration = string | number;
