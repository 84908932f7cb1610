import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { readChangesSince, readHorizon } from '../jobs/changes.ts'
import type { Job } from '../jobs/job.ts'
import { isFinal } from '../jobs/state.ts'
import { follow } from '../watch/follow.ts'
import { decodeCursor, type EventCursor, encodeCursor } from './event-cursor.ts'
import { findRequested, JobParams, type JobRequest } from './find-job.ts'
import { negotiate } from './negotiate.ts'
import { readsHeaders } from './request-headers.ts'
import { withBody, withoutBody, withProblems } from './responses.ts'
import type { Service } from './service.ts'
import { type Snapshot, snapshotSize } from './snapshot.ts'
import { connectSocket, refuseForeignOrigin } from './websocket.ts'

/** Who has missed more changes gets a snapshot instead. */
const mostMissed = 1_000

const Query = Type.Object({
  lastEventId: Type.Optional(Type.String({ description: 'Like Last-Event-ID, for clients that cannot send it' })),
})

/** Of a parameter that is there twice the first counts, as of a preference; a stream is not refused for it. */
const takeFirst = async (request: FastifyRequest) => {
  const query = request.query as Record<string, unknown>
  query.lastEventId = [query.lastEventId].flat()[0]
}

const eventStream = withBody(
  'Server-sent events: `status` with a job, `progress` with what a report of progress changes; see /asyncapi.json',
  'text/event-stream',
  Type.String(),
  { headers: ['Cache-Control'] },
)

/** Server-sent events: of one job until its end, and of all the caller's jobs; the latter by WebSocket as well. */
export function eventRoutes(app: FastifyInstance, service: Service): void {
  app.get<{ Params: { id: string }; Querystring: Type.Static<typeof Query> }>(
    '/jobs/:id/events',
    {
      schema: {
        summary: 'The changes of a job, until its end',
        operationId: 'getJobEvents',
        tags: ['events'],
        params: JobParams,
        querystring: Query,
        headers: readsHeaders('last-event-id'),
        response: {
          200: eventStream,
          204: withoutBody('The end was told already; do not connect again'),
          ...withProblems('not-found', 'job-expired'),
        },
      },
      preValidation: takeFirst,
    },
    async (request, reply) => {
      negotiate(request, ['text/event-stream'])
      return streamJob(service, request, reply)
    },
  )
  app.route<{ Querystring: Type.Static<typeof Query> }>({
    method: 'GET',
    url: '/events',
    schema: {
      summary: 'The changes of all your jobs',
      description: `Begins with your newest ${snapshotSize} jobs, then goes on for ever.`,
      operationId: 'getEvents',
      tags: ['events'],
      querystring: Query,
      headers: readsHeaders('last-event-id'),
      response: { 200: eventStream, ...withProblems('foreign-origin') },
    },
    handler: async (request, reply) => {
      negotiate(request, ['text/event-stream'])
      return streamPrincipal(service, request, reply)
    },
    preValidation: [takeFirst, refuseForeignOrigin(service)],
    wsHandler: (socket, request) => connectSocket(service, socket, request),
  })
}

/** The id of the last event that the client has seen. What a browser sends by itself is newer than what it was given. */
function lastEventIdOf({ headers, query }: FastifyRequest): string | undefined {
  const header = headers['last-event-id']
  const { lastEventId } = query as Type.Static<typeof Query>
  return typeof header === 'string' && header !== '' ? header : lastEventId
}

/** Streams the changes of a job until its end. A client that has been told the end is told not to come back (204). */
export async function streamJob(service: Service, request: JobRequest, reply: FastifyReply): Promise<FastifyReply> {
  const following = follow((onChange) => service.watcher.watchJob(request.params.id, onChange))
  try {
    const job = await findRequested(service, request)
    const isKnown = lastEventIdOf(request) === job.sequence
    if (request.method === 'HEAD' || (isKnown && isFinal(job.state))) {
      following.stop()
      return sendNoStream(reply, isKnown && isFinal(job.state) ? 204 : 200)
    }
    const origin = service.originOf(request)
    const stream = service.streams.open(reply, {
      frame: (one, last) => service.news.frame(one, last, { origin, id: one.sequence }),
      known: isKnown ? [job] : [],
      onEnd: following.stop,
    })
    const tell = (one: Job) => {
      stream.send(one)
      if (isFinal(one.state)) stream.end()
    }
    following.begin(tell, [job])
    return reply
  } catch (error) {
    following.stop()
    throw error
  }
}

/** Streams the changes of all jobs of the caller: what it has missed, or a snapshot, and then what happens. */
async function streamPrincipal(service: Service, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  if (request.method === 'HEAD') return sendNoStream(reply, 200)
  const { principal } = request
  const following = follow((onChange) => service.watcher.watchPrincipal(principal, onChange))
  try {
    const cursor = decodeCursor(lastEventIdOf(request))
    const missed = cursor && (await readMissed(service, principal, cursor))
    const { since, jobs } = missed ?? (await service.snapshotOf(principal))
    service.watcher.lookSince(since)
    const origin = service.originOf(request)
    const stream = service.streams.open(reply, {
      frame: (one, last, before) =>
        service.news.frame(one, last, { origin, id: encodeCursor(one, before), namesJob: true }),
      known: [],
      onEnd: following.stop,
    })
    // A client that leaves in the middle begins again where it had begun.
    const last = jobs.at(-1)
    for (const job of jobs.slice(0, -1)) stream.send(job, missed && cursor?.since)
    let isLive = false
    following.begin((job) => stream.send(job, (isLive && service.watcher.horizon()) || since), last ? [last] : [])
    isLive = true
    return reply
  } catch (error) {
    following.stop()
    throw error
  }
}

/** What a resuming client has missed; undefined when it is too much. What it has just seen may be told again. */
async function readMissed(
  { database }: Service,
  principal: string,
  { since, jobId, sequence }: EventCursor,
): Promise<Snapshot | undefined> {
  const horizon = await readHorizon(database.kysely)
  const changed = await readChangesSince(database.kysely, { principal, since, limit: mostMissed })
  const jobs = changed?.filter((job) => job.id !== jobId || job.sequence !== sequence)
  return jobs && { since: horizon, jobs }
}

/** To a HEAD, and to who need not come back. */
const sendNoStream = (reply: FastifyReply, status: 200 | 204) =>
  reply
    .code(status)
    .headers({
      'cache-control': 'no-store, no-transform',
      ...(status === 200 && { 'content-type': 'text/event-stream' }),
    })
    .send()
