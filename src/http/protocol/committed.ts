import type { OutgoingHttpHeaders } from 'node:http'
import type { FastifyInstance, FastifyReply } from 'fastify'
import type { Job } from '../../jobs/job.ts'

/** A job whose change is committed. Whatever happens to the answer from now on, it must say so. */
export interface CommittedJob {
  job: Pick<Job, 'id' | 'operation' | 'status'>
  /** The HTTP status of the answer. */
  status: 200 | 202
  /** Sets the headers that link to the job. */
  link(): unknown
  /** Makes the body of the answer. */
  monitor(): unknown
}

/** A decorator of replies. A WeakMap with an entry for each request would double the work of the garbage collector. */
const committedJob = Symbol('accepted.committedJob')

declare module 'fastify' {
  interface FastifyReply {
    [committedJob]: CommittedJob | null
  }
}

/** Lets {@link recordCommitted} work in a scope. */
export function allowCommitted(scope: FastifyInstance): void {
  if (!scope.hasReplyDecorator(committedJob)) scope.decorateReply(committedJob, null)
}

/** Records that the change of a job is committed. Call it right after the commit. */
export function recordCommitted(reply: FastifyReply, committed: CommittedJob): void {
  reply[committedJob] = committed
}

/**
 * Answers for a committed job although building the answer failed, for example in a hook or a serializer of the app. A
 * 5xx would say that nothing was stored. Sends as much of the answer as can be built, at least the id of the job, and
 * bypasses the hooks. Does nothing if no job is committed.
 */
export function sendCommitted(reply: FastifyReply, error: unknown): void {
  const committed = reply[committedJob]
  if (!committed || reply.sent || reply.raw.headersSent) return
  const { job, status, link, monitor } = committed
  reply.log.error({ err: error, job: job.id }, `Building the answer failed; answering ${status}, as the job is stored`)
  attempt(link)
  const { 'content-location': self, location: result, ...headers } = reply.getHeaders()
  const links = { ...(self && { self }), ...(result && { result }) }
  const minimal = { id: job.id, operation: job.operation, status: job.status, links }
  const body = attempt(() => JSON.stringify(monitor())) ?? JSON.stringify(minimal)
  const ownHeaders: OutgoingHttpHeaders = {
    ...(self && { 'operation-location': self, 'content-location': `${self}` }),
    ...(result && { location: `${result}` }),
    'cache-control': 'no-store',
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
  }
  // They describe the body that could not be sent.
  for (const name of ['etag', 'content-encoding', 'transfer-encoding', 'content-length']) delete headers[name]
  reply.hijack()
  const hasHead = attempt(() => reply.raw.writeHead(status, { ...(headers as OutgoingHttpHeaders), ...ownHeaders }))
  if (!hasHead) reply.raw.writeHead(status, ownHeaders)
  reply.raw.end(body)
}

/** Calls a function, and returns undefined when it throws. */
function attempt<Value>(work: () => Value): Value | undefined {
  try {
    return work()
  } catch {
    return undefined
  }
}
