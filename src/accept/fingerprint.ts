import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { KeyRing } from '../primitives/key-ring.ts'

/** The parts of a request that a fingerprint covers. It does not cover preferences, trace context and credentials. */
export interface Fingerprinted {
  method: string
  path: string
  query: string
  mediaType: string
  body: unknown
}

/** An idempotency key, and the fingerprint of the request that sends it. */
export interface Idempotency {
  key: string
  fingerprint: Buffer
  /** The fingerprints that the same request may have been stored with: with other keys, or before its members were sealed. */
  otherFingerprints?: readonly Buffer[]
}

/** Returns whether a request is the one that has taken a key. A repeated request must have the same fingerprint. */
export const isSameRequest = (
  { fingerprint, otherFingerprints = [] }: Pick<Idempotency, 'fingerprint' | 'otherFingerprints'>,
  holder: { fingerprint: Buffer },
): boolean => [fingerprint, ...otherFingerprints].some((one) => one.equals(holder.fingerprint))

/**
 * Computes the fingerprint of a request. Sorts the query, and writes the body as canonical JSON (RFC 8785).
 *
 * @param keyRing makes the fingerprint an HMAC. Without it, the fingerprint is a SHA-256. From a SHA-256, a sealed member
 *   that has few possible values could be found by trying them all.
 */
export function fingerprintOf(
  { method, path, query, mediaType, body }: Fingerprinted,
  keyRing: KeyRing | undefined,
): Omit<Idempotency, 'key'> {
  const parts = [method, path, sortQuery(query), mediaType, canonicalize(body) ?? '']
  // Each part is preceded by its length. Otherwise different requests could give the same text.
  const text = parts.map((part) => `${Buffer.byteLength(part)}:${part}`).join('')
  const digest = hash('sha256', text, 'buffer')
  if (!keyRing) return { fingerprint: digest }
  const [fingerprint, ...others] = keyRing.macs(text) as [Buffer, ...Buffer[]]
  return { fingerprint, otherFingerprints: [...others, digest] }
}

/**
 * Sorts the parameters by name. Parameters with the same name keep their order, because their order may matter. Names
 * and values stay encoded, because decoding could make different queries equal.
 */
function sortQuery(query: string): string {
  const pairs = query.split('&').map((pair) => ({ pair, name: pair.split('=', 1)[0] as string }))
  return pairs
    .sort((a, b) => Number(a.name > b.name) - Number(a.name < b.name))
    .map(({ pair }) => pair)
    .join('&')
}
