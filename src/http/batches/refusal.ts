import type { EntriesRefused } from '../../accept/accept.ts'
import type { AcceptedBatch } from '../../accept/accept-batch.ts'
import type { Refusal } from '../../acceptance.ts'
import type { BodyViolation } from './violations.ts'

const maxDetails = 100

/**
 * Makes the answer for a batch of which operations have refused items: the first refusal, and a pointer to each refused
 * item.
 */
export function refusalOf(
  { entries, onEnd }: AcceptedBatch,
  { refusals }: EntriesRefused,
): { refusal: Refusal; details: BodyViolation[] } {
  const refused = [
    ...entries.map(({ id }, index) => ({ pointer: `/items/${index}`, refusal: refusals.get(id) })),
    { pointer: '/onEnd', refusal: onEnd && refusals.get(onEnd.id) },
  ].filter((one): one is { pointer: string; refusal: Refusal } => one.refusal !== undefined)
  const [first] = refused as [(typeof refused)[number]]
  return {
    refusal: first.refusal,
    details: refused
      .slice(0, maxDetails)
      .map(({ pointer, refusal: { code, message } }) => ({ pointer, keyword: code, message })),
  }
}
