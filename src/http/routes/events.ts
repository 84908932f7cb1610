import type { FastifyInstance, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { JobParams } from '../protocol/find-job.ts'
import { requestHeaders } from '../protocol/headers.ts'
import { negotiate } from '../protocol/negotiate.ts'
import { bodyResponse, emptyResponse, problemResponses } from '../protocol/schemas.ts'
import type { Service } from '../service.ts'
import { snapshotSize } from '../streams/snapshot.ts'
import { streamAllJobs, streamJob } from '../streams/stream-jobs.ts'
import { connectSocket, refuseForeignOrigin } from '../streams/websocket.ts'

const Query = Type.Object({
  lastEventId: Type.Optional(
    Type.String({ description: 'The same as Last-Event-ID, for clients that cannot send the header' }),
  ),
})

/** Keeps the first of repeated parameters, so that validation does not refuse the stream. */
const keepFirstLastEventId = async (request: FastifyRequest) => {
  const query = request.query as Record<string, unknown>
  query.lastEventId = [query.lastEventId].flat()[0]
}

const eventStreamResponse = bodyResponse(
  'Server-sent events: `status` carries a job, `progress` only the members that changed; see /asyncapi.json',
  'text/event-stream',
  Type.String(),
  { headers: ['Cache-Control'] },
)

/** Event streams: of one job until it ends, and of all jobs of the caller. The latter is also served over WebSocket. */
export function eventRoutes(app: FastifyInstance, service: Service): void {
  app.get<{ Params: { id: string }; Querystring: Type.Static<typeof Query> }>(
    '/jobs/:id/events',
    {
      schema: {
        summary: 'Stream the changes of a job until it ends',
        operationId: 'getJobEvents',
        tags: ['events'],
        params: JobParams,
        querystring: Query,
        headers: requestHeaders('last-event-id'),
        response: {
          200: eventStreamResponse,
          204: emptyResponse('The client has already received the final event, and must not reconnect'),
          ...problemResponses('not-found', 'job-expired'),
        },
      },
      preValidation: keepFirstLastEventId,
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
      summary: 'Stream the changes of all your jobs',
      description: `Starts with your newest ${snapshotSize} jobs. The stream never ends by itself.`,
      operationId: 'getEvents',
      tags: ['events'],
      querystring: Query,
      headers: requestHeaders('last-event-id'),
      response: { 200: eventStreamResponse, ...problemResponses('foreign-origin') },
    },
    preValidation: [keepFirstLastEventId, refuseForeignOrigin(service)],
    handler: async (request, reply) => {
      negotiate(request, ['text/event-stream'])
      return streamAllJobs(service, request, reply)
    },
    wsHandler: (socket, request) => connectSocket(service, socket, request),
  })
}
