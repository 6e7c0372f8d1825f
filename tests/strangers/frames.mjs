/**
 * The wire of `/cpc/1.0.0` as another implementation would write it: CPC's own five fields, by another protobuf library
 * (protobufjs), each frame behind its length as an unsigned varint. What cpc-net adds from field 6 up is spelled out
 * apart, for the stories that play a dishonest cpc-net.
 */

import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import protobuf from "protobufjs";

const FIVE_FIELDS = `
  syntax = "proto3";
  package another.implementation;

  message CpcMessage {
    enum Priority { LOW = 0; MEDIUM = 1; HIGH = 2; }
    enum Type { EVENT = 0; DISCOVERY = 1; CONTROL = 2; }

    uint64 nonce = 1;
    Priority priority = 2;
    Type message_type = 3;
    bytes payload = 4;
    bytes signature = 5;
  }
`;

const MORE_FIELDS = `
  syntax = "proto3";
  package a.cpc.net;

  message CpcMessage {
    uint64 nonce = 1;
    uint32 priority = 2;
    uint32 message_type = 3;
    bytes payload = 4;
    bytes signature = 5;
    bytes sender = 6;
    bytes recipient = 7;
    uint64 created_at = 9;
    uint32 kind = 12;
  }

  message ErrorReport {
    string reason = 1;
    string detail = 2;
    uint64 nonce = 3;
  }
`;

const { CpcMessage: FiveFields } = protobuf
  .parse(FIVE_FIELDS, { keepCase: true })
  .root.lookup("another.implementation");
const { CpcMessage: MoreFields, ErrorReport } = protobuf
  .parse(MORE_FIELDS, { keepCase: true })
  .root.lookup("a.cpc.net");

/** The numbers of the enums. */
export const Priority = FiveFields.Priority;
/** The numbers of the enums. */
export const Type = FiveFields.Type;
/** The kind of an ERROR frame. */
export const KIND_ERROR = 7;

/** A message of CPC's five fields, as bytes. Only fields that are given are written, also when they hold a default. */
export function writeFiveFields(fields) {
  return FiveFields.encode(FiveFields.create(fields)).finish();
}

/** The five fields of a frame. */
export function readFiveFields(bytes) {
  return FiveFields.toObject(FiveFields.decode(bytes), { longs: BigInt, enums: String, defaults: true });
}

/** A frame with fields from 6 up. */
export function writeMoreFields(fields) {
  return MoreFields.encode(MoreFields.create(fields)).finish();
}

/**
 * A frame with fields from 6 up and its author's signature, made as proto/cpc.proto describes it: over a prefix and the
 * frame's bytes without the records of signature and hops.
 */
export async function writeSigned(privateKey, fields) {
  const unsigned = writeMoreFields({ sender: peerIdFromPrivateKey(privateKey).toMultihash().bytes, ...fields });
  const prefix = new TextEncoder().encode("cpc-net/1.0.0/msg:");
  const signature = await privateKey.sign(concatenated(prefix, unsigned));
  return concatenated(unsigned, writeMoreFields({ signature }));
}

/** A frame with fields from 6 up. */
export function readMoreFields(bytes) {
  return MoreFields.toObject(MoreFields.decode(bytes), { longs: BigInt, defaults: true });
}

/** The payload of an ERROR frame. */
export function readErrorReport(bytes) {
  return ErrorReport.toObject(ErrorReport.decode(bytes), { longs: BigInt, defaults: true });
}

/** An unsigned varint (LEB128), as bytes. */
export function varint(value) {
  const bytes = [];
  let left = BigInt(value);
  do {
    const low = Number(left & 0x7fn);
    left >>= 7n;
    bytes.push(left > 0n ? low | 0x80 : low);
  } while (left > 0n);
  return Uint8Array.from(bytes);
}

/** A frame behind its length. */
export function framed(frame) {
  return concatenated(varint(frame.length), frame);
}

/** Pieces of bytes as one. */
export function concatenated(...pieces) {
  return new Uint8Array(Buffer.concat(pieces));
}

/** Takes pieces of a stream in, gives whole frames out. */
export class FrameReader {
  #bytes = new Uint8Array();

  /** The frames that are complete with this piece. */
  push(piece) {
    this.#bytes = concatenated(this.#bytes, piece);
    const frames = [];
    for (let frame = this.#next(); frame !== undefined; frame = this.#next()) {
      frames.push(frame);
    }
    return frames;
  }

  #next() {
    const prefix = this.#bytes.findIndex((byte) => byte < 0x80) + 1;
    const length = this.#bytes.subarray(0, prefix).reduceRight((sum, byte) => sum * 128 + (byte & 0x7f), 0);
    if (prefix === 0 || this.#bytes.length < prefix + length) {
      return undefined;
    }
    const frame = this.#bytes.slice(prefix, prefix + length);
    this.#bytes = this.#bytes.slice(prefix + length);
    return frame;
  }
}
