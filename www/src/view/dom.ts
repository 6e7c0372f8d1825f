/**
 * Small tools for the page's elements. Text goes in as text only, nowhere on this page is markup made of strings, so
 * nothing that a stranger writes can become markup.
 */

/** The element of the page with the given id. */
export function byId<Kind extends Element = HTMLElement>(id: string): Kind {
  const element = document.getElementById(id);
  if (element === null) {
    throw new Error(`index.html has no element #${id}`);
  }
  return element as unknown as Kind;
}

/** The element inside `root` with the given `data-part`. */
export function part<Kind extends Element = HTMLElement>(root: ParentNode, name: string): Kind {
  const element = root.querySelector(`[data-part="${name}"]`);
  if (element === null) {
    throw new Error(`index.html has no part "${name}" where it is looked for`);
  }
  return element as Kind;
}

/** A new element from a template of the page. */
export function fromTemplate(id: string): HTMLElement {
  const first = byId<HTMLTemplateElement>(id).content.firstElementChild;
  return document.importNode(first as HTMLElement, true);
}

/** Sets an element's text, if it differs: an unchanged page is not laid out, nor read out, again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Sets an attribute, if it differs; `undefined` takes it away. */
export function setAttribute(element: Element, name: string, value: string | undefined): void {
  if (value === undefined) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** Shows or hides an element. */
export function setShown(element: HTMLElement, shown: boolean): void {
  if (element.hidden === shown) {
    element.hidden = !shown;
  }
}

/** A number in a badge, which is not there for 0. */
export function setBadge(badge: HTMLElement, amount: number, meaning: string): void {
  setShown(badge, amount > 0);
  setText(badge, amount > 99 ? "99+" : String(amount));
  setAttribute(badge, "aria-label", `${amount} ${meaning}`);
}

const keys = new WeakMap<Element, string>();

/**
 * Makes a list show the items, one element for each key: those that stay are kept, with their focus and selection, and
 * moved only if their place has changed.
 */
export function showList<Item>(
  list: Element,
  items: Iterable<Item>,
  keyOf: (item: Item) => string,
  create: (item: Item) => HTMLElement,
  update: (element: HTMLElement, item: Item) => void,
): void {
  const left = new Map<string, HTMLElement>();
  for (const element of list.children) {
    left.set(keys.get(element) ?? "", element as HTMLElement);
  }
  const wanted = [...items].map((item) => {
    const key = keyOf(item);
    const element = left.get(key) ?? create(item);
    keys.set(element, key);
    left.delete(key);
    update(element, item);
    return element;
  });
  for (const element of left.values()) {
    element.remove();
  }
  let next = list.firstElementChild;
  for (const element of wanted) {
    if (element === next) {
      next = next.nextElementSibling;
    } else {
      list.insertBefore(element, next);
    }
  }
}

/** Lets Enter submit the form of a text area, and Shift+Enter begin a new line. */
export function submitOnEnter(field: HTMLTextAreaElement): void {
  field.addEventListener("keydown", (event) => {
    // While a character is being composed, Enter belongs to the input method.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      field.form?.requestSubmit();
    }
  });
}
