import type { AttemptSpans, SettleSpans } from './attempt-spans.ts'
import type { FinishResult } from './finish.ts'
import type { EndedAttempts } from './outcome.ts'

/** Runs a transaction that finishes attempts, within their spans. Then ends the spans of these attempts. */
export async function traceSettle(
  spans: AttemptSpans,
  attempts: EndedAttempts,
  transaction: (spans: SettleSpans) => Promise<FinishResult>,
): Promise<FinishResult> {
  const settling = spans.settle()
  let result: FinishResult
  try {
    result = await transaction(settling)
  } catch (error) {
    settling.end(error)
    throw error
  }
  settling.end()
  for (const { claim, outcome, error } of result.failures) {
    spans.end(claim, outcome.kind === 'retry' ? 'retried' : 'failed', error)
  }
  for (const claim of result.canceled) spans.end(claim, 'canceled')
  for (const claim of result.ended) spans.end(claim, 'lost')
  // The spans of all others have ended.
  for (const { claim } of attempts) if (!result.locked.has(claim.jobId)) spans.end(claim, 'succeeded')
  return result
}
