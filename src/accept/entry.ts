import type { Refusal } from '../acceptance.ts'
import type { Operation } from '../operation.ts'
import type { TraceContext } from '../primitives/trace-context.ts'
import type { Idempotency } from './fingerprint.ts'

/** A request that has passed all checks that do not need the database. */
export interface AcceptEntry extends TraceContext {
  /** UUIDv7: the id of the new job. */
  id: string
  operation: Operation
  input: unknown
  params: unknown
  principal: string
  idempotency?: Idempotency | undefined
  /** The committer sets it, with {@link withCoalescingKey}. */
  coalescingKey?: string | undefined
  /** The only webhook endpoint to notify. Default: every endpoint that matches. */
  webhookEndpointId?: string | undefined
}

/**
 * Thrown when operations refuse one or more entries. The transaction must then be rolled back, because a refused
 * request must not write anything.
 */
export class EntriesRefused extends Error {
  override name = 'EntriesRefused'
  /** Maps the id of each refused entry to its refusal. */
  readonly refusals: ReadonlyMap<string, Refusal>

  constructor(refusals: ReadonlyMap<string, Refusal>) {
    super(`${refusals.size} entries refused`)
    this.refusals = refusals
  }
}
