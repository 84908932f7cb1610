import { describeSpan, errorTypeOf, startTransaction, type TransactionSpans } from '../../src/jobs/spans.ts'
import type { Operation } from '../../src/operation.ts'
import type { TraceContext } from '../../src/primitives/trace-context.ts'
import { epochMs, type RecordedSpan, type Tracing } from '../../src/primitives/tracing.ts'
import type { AttemptedJob } from '../../src/queue/begun-job.ts'
import type { Claim } from '../../src/queue/claim.ts'
import { describeError, JobCanceled, RetryAfter } from '../errors.ts'
import type { OutcomeLabel } from '../metrics.ts'
import type { PendingJob } from './pending-jobs.ts'

interface AttemptTrace {
  process: RecordedSpan
  /** The innermost span that runs: of `perform`, of the transaction that settles, or `process`. */
  current: RecordedSpan
}

/** The spans of a transaction that settles jobs. */
export interface SettleSpans {
  /** Runs the rest of the transaction. When the transaction is retried, its spans go on. */
  run<Result>(claims: readonly Claim[], pending: ReadonlyMap<string, PendingJob>, work: () => Result): Result
  end(error?: unknown): void
}

/** Whether the handler or a client has asked for what looks like an error. */
const isRequested = (error: unknown) => error instanceof RetryAfter || error instanceof JobCanceled

/** The spans of the attempts of one operation: `process` for each attempt, with `perform` and `settle` as its children. */
export class AttemptSpans {
  readonly #tracing: Tracing
  readonly #operation: Operation
  readonly #workerId: string
  readonly #claimedAt = new WeakMap<Claim, number>()
  readonly #traces = new WeakMap<Claim, AttemptTrace>()

  constructor(tracing: Tracing, operation: Operation, workerId: string) {
    this.#tracing = tracing
    this.#operation = operation
    this.#workerId = workerId
  }

  /** Remembers when the attempts have started. Their spans start later, when the rows of their jobs are known. */
  claimed(claims: readonly Claim[]): void {
    const now = epochMs()
    for (const claim of claims) this.#claimedAt.set(claim, now)
  }

  /** Starts the span of an attempt, as a child of the span that sent the job, unless it has started. */
  begin(claim: Claim, row: AttemptedJob): void {
    if (this.#traces.has(claim)) return
    const { name, attributes } = describeSpan('process', { id: row.id, operation: this.#operation.name })
    const sender = senderOf(row)
    const process = this.#tracing.start(name, {
      kind: 'consumer',
      parent: sender,
      // The conventions ask for the link. The parent makes one trace of the request and its job.
      ...(sender.traceparent && { links: [sender] }),
      startedAt: this.#claimedAt.get(claim),
      attributes: {
        ...attributes,
        'messaging.client.id': this.#workerId,
        'accepted.attempt': claim.attempt,
        'accepted.max_attempts': row.max_attempts,
      },
    })
    this.#traces.set(claim, { process, current: process })
  }

  /** Returns the innermost span of an attempt; undefined if its span has not started. */
  current(claim: Claim): RecordedSpan | undefined {
    return this.#traces.get(claim)?.current
  }

  /** Runs `perform` within a span of its own. */
  async perform<Result>(claim: Claim, work: () => Promise<Result>): Promise<Result> {
    const trace = this.#traces.get(claim)
    if (!trace) return work()
    const { name, attributes } = describeSpan('perform', { id: claim.jobId, operation: this.#operation.name })
    const span = this.#tracing.start(name, { parent: trace.process, attributes })
    trace.current = span
    try {
      return await span.run(work)
    } catch (error) {
      if (!isRequested(error)) span.fail(error, errorTypeOf(error))
      throw error
    } finally {
      trace.current = trace.process
      span.end()
    }
  }

  /** Prepares the spans of a transaction that settles jobs. They start when the transaction has locked its jobs. */
  settle(): SettleSpans {
    const startedAt = epochMs()
    let transaction: TransactionSpans | undefined
    let traces: AttemptTrace[] = []
    const start = (claims: readonly Claim[], pending: ReadonlyMap<string, PendingJob>) => {
      for (const claim of claims) {
        const row = pending.get(claim.jobId)
        if (row) this.begin(claim, row)
      }
      const traced = claims.filter((claim) => this.#traces.has(claim))
      traces = traced.map((claim) => this.#traces.get(claim) as AttemptTrace)
      const operation = this.#operation.name
      const jobs = traced.map(({ jobId: id }, index) => ({ id, operation, parent: traces[index]?.process ?? {} }))
      const started = startTransaction(this.#tracing, 'settle', jobs, startedAt)
      for (const [index, trace] of traces.entries()) trace.current = started.spans[index] ?? trace.process
      return started
    }
    return {
      run(claims, pending, work) {
        transaction ??= start(claims, pending)
        return transaction.run(work)
      },
      end(error) {
        for (const trace of traces) trace.current = trace.process
        transaction?.end(isRequested(error) ? undefined : error)
      },
    }
  }

  /** Ends the span of an attempt. */
  end(claim: Claim, outcome: OutcomeLabel, error?: unknown): void {
    const trace = this.#traces.get(claim)
    if (!trace) return
    this.#traces.delete(claim)
    trace.process.set({ 'accepted.outcome': outcome })
    if (error !== undefined && !isRequested(error)) trace.process.fail(error, describeError(error).code)
    trace.process.end()
  }
}

/** Returns the context of the span that sent a job. */
export const senderOf = ({
  traceparent,
  tracestate,
}: Pick<AttemptedJob, 'traceparent' | 'tracestate'>): TraceContext => ({
  traceparent: traceparent ?? undefined,
  tracestate: tracestate ?? undefined,
})
