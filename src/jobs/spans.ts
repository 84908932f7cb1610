import type { TraceContext } from '../primitives/trace-context.ts'
import type { Attributes, RecordedSpan, Tracing } from '../primitives/tracing.ts'

/** A message, as OpenTelemetry's conventions for messaging systems call a job. */
export interface Message {
  /** The id of the job; undefined for a batch of messages. */
  id?: string | undefined
  /** The name of the operation; undefined for a batch of several operations. */
  operation: string | undefined
  /** The number of messages of a batch. */
  count?: number | undefined
}

type Step = 'send' | 'accept' | 'process' | 'perform' | 'settle'

/**
 * Returns the name and the attributes of a span, by the conventions for messaging systems:
 * https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
 */
export function describeSpan(step: Step, { id, operation, count }: Message): { name: string; attributes: Attributes } {
  return {
    name: operation ? `${step} ${operation}` : step,
    attributes: {
      'messaging.system': 'accepted',
      'messaging.operation.name': step,
      ...((step === 'send' || step === 'process' || step === 'settle') && { 'messaging.operation.type': step }),
      ...(operation && { 'messaging.destination.name': operation }),
      ...(id && { 'messaging.message.id': id }),
      ...(count !== undefined && { 'messaging.batch.message_count': count }),
    },
  }
}

/**
 * Sends a job within a span of its own. Without tracing, the job gets the context of its sender.
 *
 * @param message.sender the span that sends the job, or the trace context in the headers of the request. Then the active
 *   span comes first: it is that of the server, if the app traces its requests.
 * @param send gets the context to store with the job
 * @param attributesOf returns attributes of the outcome
 */
export function traceSend<Outcome>(
  tracing: Tracing | undefined,
  message: Message & { sender?: RecordedSpan | TraceContext },
  send: (context: TraceContext) => Promise<Outcome>,
  attributesOf: (outcome: Outcome) => Attributes = () => ({}),
): Promise<Outcome> {
  return tracing ? sendInSpan(tracing, message, send, attributesOf) : send(contextOf(message.sender ?? {}))
}

async function sendInSpan<Outcome>(
  tracing: Tracing,
  { sender = {}, ...message }: Message & { sender?: RecordedSpan | TraceContext },
  send: (context: TraceContext) => Promise<Outcome>,
  attributesOf: (outcome: Outcome) => Attributes,
): Promise<Outcome> {
  const { name, attributes } = describeSpan('send', message)
  const isRemote = !('context' in sender)
  const parent = isRemote && tracing.activeContext() ? undefined : sender
  const span = tracing.start(name, { kind: 'producer', parent, attributes })
  try {
    const outcome = await span.run(() => send(span.context))
    span.set(attributesOf(outcome))
    return outcome
  } catch (error) {
    span.fail(error, errorTypeOf(error))
    throw error
  } finally {
    span.end()
  }
}

const contextOf = (sender: RecordedSpan | TraceContext): TraceContext => ('context' in sender ? sender.context : sender)

/** Returns the value of the attribute `error.type`: a code, or the name of the error class. */
export function errorTypeOf(error: unknown): string {
  const { code, name } = Object(error) as { code?: unknown; name?: unknown }
  if (typeof code === 'string') return code
  return typeof name === 'string' ? name : '_OTHER'
}

/**
 * Runs a transaction within the spans of {@link startTransaction}.
 *
 * @param messages the jobs, with the context of the span that sent them
 */
export async function traceTransaction<Result>(
  tracing: Tracing | undefined,
  step: 'accept',
  messages: readonly (TraceContext & { id: string; operation: { name: string } })[],
  transaction: () => Promise<Result>,
): Promise<Result> {
  if (!tracing) return transaction()
  const jobs = messages.map(({ id, operation: { name }, traceparent, tracestate }) => ({
    ...{ id, operation: name, parent: { traceparent, tracestate } },
  }))
  const spans = startTransaction(tracing, step, jobs)
  try {
    const result = await spans.run(transaction)
    spans.end()
    return result
  } catch (error) {
    spans.end(error)
    throw error
  }
}

/** The spans of a transaction that does a step for one or several jobs. */
export interface TransactionSpans {
  /** The spans of the jobs, in their order. */
  readonly spans: readonly RecordedSpan[]
  /** Runs a part of the transaction. */
  run<Result>(work: () => Result): Result
  end(error?: unknown): void
}

/**
 * Starts the spans of a transaction: one for each job, in the trace of the job. If several jobs share the transaction,
 * it also has a span of its own, in a trace of its own. Their spans and this span are linked.
 */
export function startTransaction(
  tracing: Tracing,
  step: 'accept' | 'settle',
  jobs: readonly (Message & { parent: RecordedSpan | TraceContext })[],
  startedAt?: number,
): TransactionSpans {
  const shared = jobs.length > 1 ? startShared(tracing, step, jobs, startedAt) : undefined
  const spans = jobs.map(({ parent, ...message }) => {
    const { name, attributes } = describeSpan(step, message)
    return tracing.start(name, { parent, attributes, startedAt, ...(shared && { links: [shared.context] }) })
  })
  const all = shared ? [...spans, shared] : spans
  return {
    spans,
    run: (work) => {
      const active = shared ?? spans[0]
      return active ? active.run(work) : work()
    },
    end(error) {
      for (const span of all) {
        if (error !== undefined) span.fail(error, errorTypeOf(error))
        span.end()
      }
    },
  }
}

function startShared(
  tracing: Tracing,
  step: 'accept' | 'settle',
  jobs: readonly (Message & { parent: RecordedSpan | TraceContext })[],
  startedAt: number | undefined,
): RecordedSpan {
  const operations = new Set(jobs.map(({ operation }) => operation))
  const operation = operations.size === 1 ? jobs[0]?.operation : undefined
  const { name, attributes } = describeSpan(step, { operation, count: jobs.length })
  const links = jobs.map(({ parent }) => contextOf(parent))
  return tracing.start(name, { isRoot: true, links, attributes, startedAt })
}
