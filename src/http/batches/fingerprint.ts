import { hash } from 'node:crypto'
import canonicalize from 'canonicalize'
import type { TimeSlice } from '../../primitives/time-slice.ts'
import type { BatchBody } from './body.ts'

/**
 * Makes a value that is the same for two batches only if they have the same content. It takes the place of the body in
 * the fingerprint of a request, because making the canonical JSON of the whole body would block the event loop.
 */
export async function digestOf({ items, rest }: BatchBody, pause: TimeSlice): Promise<unknown> {
  const hashes: string[] = []
  for (const { value } of items) {
    hashes.push(hash('sha256', canonicalize(value) ?? ''))
    const turn = pause()
    if (turn) await turn
  }
  return { ...(rest as object), items: hashes }
}
