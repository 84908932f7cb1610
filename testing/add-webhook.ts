import type { Accepted } from '../src/connect/accepted.ts'
import { createEndpoint } from '../src/jobs/webhook-endpoint.ts'
import { type EndpointWithSecret, findEndpointViolation, NewEndpoint } from '../src/jobs/webhook-schema.ts'
import type { Operation } from '../src/operation.ts'
import { parseKeyRing } from '../src/primitives/key-ring.ts'
import { findMismatch } from '../src/validation.ts'

/**
 * Registers a webhook endpoint.
 *
 * @throws TypeError when a member of the endpoint is invalid
 */
export async function addWebhook(
  db: Accepted['db'],
  endpoint: NewEndpoint,
  operations: ReadonlyMap<string, Operation>,
  encryptionKeys: string,
): Promise<EndpointWithSecret> {
  const mismatch = findMismatch(NewEndpoint, endpoint)
  if (mismatch) throw new TypeError(`addWebhook: ${mismatch}`)
  const violation = findEndpointViolation(endpoint, operations)
  if (violation) throw new TypeError(`addWebhook: ${violation.pointer} ${violation.message}`)
  const keys = parseKeyRing(encryptionKeys)
  return db.transaction().execute((trx) => createEndpoint(trx, endpoint, keys))
}
