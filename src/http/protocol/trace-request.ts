import type { FastifyRequest } from 'fastify'
import type { Committed } from '../../accept/pending-request.ts'
import { type Message, traceSend } from '../../jobs/spans.ts'
import { isTraceparent, isTracestate, type TraceContext } from '../../primitives/trace-context.ts'
import type { Attributes } from '../../primitives/tracing.ts'
import type { Service } from '../service.ts'

/**
 * Sends the job of a request within a span of its own.
 *
 * @param send gets the trace context to store with the job
 */
export const traceRequest = <Outcome extends Committed>(
  { tracing }: Service,
  request: FastifyRequest,
  message: Message,
  send: (context: TraceContext) => Promise<Outcome>,
): Promise<Outcome> => traceSend(tracing, { ...message, sender: contextOf(request) }, send, attributesOf)

/** Reads the headers `traceparent` and `tracestate` of a request. Returns nothing if `traceparent` is malformed. */
function contextOf({ headers: { traceparent, tracestate } }: FastifyRequest): TraceContext {
  if (!isTraceparent(traceparent)) return {}
  return isTracestate(tracestate) ? { traceparent, tracestate } : { traceparent }
}

/** A request that shares a job, or that repeats another request, gets the id of the job of that request. */
function attributesOf(outcome: Committed): Attributes {
  const attributes = { 'accepted.outcome': outcome.kind }
  if ('job' in outcome) return { ...attributes, 'messaging.message.id': outcome.job.id }
  return 'jobId' in outcome ? { ...attributes, 'messaging.message.id': outcome.jobId } : attributes
}
