import type { AcceptedBatch } from '../../accept/accept-batch.ts'
import type { Operation } from '../../operation.ts'
import { createTimeSlice } from '../../primitives/time-slice.ts'
import { parseBatch } from './body.ts'
import { type BatchRequest, checkBatch } from './check.ts'
import { digestOf } from './fingerprint.ts'

/** A batch that has not been parsed. */
export interface ReceivedBatch {
  text: Uint8Array
  /** Whether the text is NDJSON; otherwise it is JSON. */
  isNdjson: boolean
}

/**
 * Parses and checks a batch.
 *
 * @param idempotencyOf returns the idempotency key with the fingerprint of the batch. The arguments are the operations
 *   of the batch, and a function that makes the digest of the batch for the fingerprint.
 * @throws ProblemError malformed-json, invalid-body
 */
export async function readBatch(
  { text, isNdjson }: ReceivedBatch,
  request: BatchRequest,
  operations: ReadonlyMap<string, Operation>,
  idempotencyOf: (
    used: readonly Operation[],
    makeDigest: () => Promise<unknown>,
  ) => Promise<AcceptedBatch['idempotency']>,
): Promise<AcceptedBatch> {
  const pause = createTimeSlice()
  const maxInputBytes = Math.max(...[...operations.values()].map(({ bodyLimit }) => bodyLimit))
  const body = await parseBatch(text, { isNdjson, maxInputBytes, pause })
  const batch = await checkBatch(body, request, { operations, pause })
  const { entries, onEnd } = batch
  const used = [...new Set([...entries, ...(onEnd ? [onEnd] : [])].map(({ operation }) => operation))]
  return { ...batch, idempotency: await idempotencyOf(used, () => digestOf(body, pause)) }
}
