import websocket from '@fastify/websocket'
import type { FastifyInstance, FastifyRequest, onRequestHookHandler } from 'fastify'
import Type from 'typebox'
import { ProblemError } from '../../errors.ts'
import { JobParams } from '../protocol/find-job.ts'
import { requestHeaders } from '../protocol/headers.ts'
import { negotiate } from '../protocol/negotiate.ts'
import { bodyResponse, emptyResponse, problemResponses } from '../protocol/schemas.ts'
import type { Service } from '../service.ts'
import { snapshotSize } from '../streams/snapshot.ts'
import { streamAllJobs, streamJob } from '../streams/stream-jobs.ts'
import { upgradesOf } from '../streams/upgrades.ts'
import { connectSocket, refuseForeignOrigin, refuseMalformedHandshakes, socketOptions } from '../streams/websocket.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    isWebSocket?: boolean
  }
}

const EventsQuery = Type.Object({
  lastEventId: Type.Optional(
    Type.String({ description: 'The same as Last-Event-ID, for clients that cannot send the header' }),
  ),
})

/** Keeps only the first value if the parameter is repeated. Otherwise the validation would refuse the request. */
const keepFirstLastEventId = async (request: FastifyRequest) => {
  const query = request.query as Record<string, unknown>
  query.lastEventId = [query.lastEventId].flat()[0]
}

const eventStreamResponse = bodyResponse(
  'Server-sent events. A `status` event contains a job, a `progress` event only its progress. See asyncapi.json.',
  'text/event-stream',
  Type.String(),
  { headers: ['Cache-Control'] },
)

/** Adds the event streams of single jobs, and the stream of all jobs of the caller, which is also a WebSocket. */
export function eventRoutes(app: FastifyInstance, service: Service): void {
  jobEventsRoute(app, service)
  const { events } = service.paths
  if (!events) return
  app.register(async (scope) => {
    // If the host app has registered @fastify/websocket, its upgrade handler and its options also apply here.
    if (!scope.hasRequestDecorator('ws')) {
      const server = upgradesOf(scope.server, scope.prefix.replace(/\/$/, '') + events)
      await scope.register(websocket, {
        ...socketOptions,
        options: { ...socketOptions.options, server: server as typeof scope.server },
      })
      refuseMalformedHandshakes(scope.websocketServer, scope.problemPaths)
    }
    // After a refusal, nothing else reads from the connection.
    scope.addHook('onResponse', async ({ raw }) => {
      if ('upgrade' in raw && raw.upgrade) raw.socket.destroySoon()
    })
    allEventsRoute(scope, service, events)
  })
}

/** An `onRequest` hook for routes that are no WebSockets, in case the host app has registered @fastify/websocket. */
export const refuseUpgrade: onRequestHookHandler = (request, _reply, done) => {
  const isRefused = request.ws && !request.routeOptions.config.isWebSocket
  done(isRefused ? new ProblemError('bad-request', 'This URL is not a WebSocket') : undefined)
}

function jobEventsRoute(app: FastifyInstance, service: Service): void {
  app.get<{ Params: { id: string }; Querystring: Type.Static<typeof EventsQuery> }>(
    `${service.paths.jobs}/:id/events`,
    {
      config: { action: 'read', acceptsLink: true },
      schema: {
        summary: 'Stream the changes of a job until the job ends',
        operationId: 'getJobEvents',
        tags: ['events'],
        params: JobParams,
        querystring: EventsQuery,
        headers: requestHeaders('last-event-id'),
        response: {
          200: eventStreamResponse,
          204: emptyResponse('The client has already received the final event, and must not reconnect'),
          ...problemResponses('not-found', 'job-expired'),
        },
      },
      preValidation: keepFirstLastEventId,
      exposeHeadRoute: true,
    },
    async (request, reply) => {
      negotiate(request, ['text/event-stream'])
      return streamJob(service, request, reply)
    },
  )
}

function allEventsRoute(app: FastifyInstance, service: Service, url: string): void {
  app.route<{ Querystring: Type.Static<typeof EventsQuery> }>({
    method: 'GET',
    url,
    config: { action: 'read', isWebSocket: true },
    exposeHeadRoute: true,
    schema: {
      summary: 'Stream the changes of all your jobs',
      description: `Starts with your newest ${snapshotSize} jobs, without results. The stream never ends by itself.`,
      operationId: 'getEvents',
      tags: ['events'],
      querystring: EventsQuery,
      headers: requestHeaders('last-event-id'),
      response: { 200: eventStreamResponse, ...problemResponses('foreign-origin') },
    },
    preValidation: [keepFirstLastEventId, refuseForeignOrigin(service)],
    preHandler: async (request, reply) => {
      if (request.ws) service.openRequests.openStream(request, reply)
    },
    handler: async (request, reply) => {
      negotiate(request, ['text/event-stream'])
      return streamAllJobs(service, request, reply)
    },
    wsHandler: (socket, request) => connectSocket(service, socket, request),
  })
}
