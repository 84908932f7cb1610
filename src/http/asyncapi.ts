import type { FastifyInstance } from 'fastify'
import { Monitor, Progress } from '../jobs/monitor.ts'
import { JobEvent } from './openapi.ts'
import type { Service } from './service.ts'
import { subprotocol } from './websocket.ts'

/** The AsyncAPI document: what is told of jobs, over server-sent events, WebSocket and webhooks. */
export function asyncapiRoute(app: FastifyInstance, service: Service): void {
  app.get('/asyncapi.json', { schema: { hide: true } }, async (request) => describeEvents(service.originOf(request)))
}

const ref = (path: string) => ({ $ref: `#/${path}` })
const sse = 'text/event-stream'

/** @param origin scheme and host of the API */
export function describeEvents(origin: string): object {
  const { protocol, host } = new URL(origin)
  const channel = (
    address: string | undefined,
    description: string,
    messages: readonly string[],
    more: object = {},
  ) => ({
    ...(address && { address }),
    description,
    messages: Object.fromEntries(messages.map((name) => [name, ref(`components/messages/${name}`)])),
    ...more,
  })
  const operation = (action: 'send' | 'receive', name: string, summary: string) => ({
    action,
    summary,
    channel: ref(`channels/${name}`),
    security: [ref(`components/securitySchemes/${name === 'webhook' ? 'signature' : 'bearer'}`)],
  })
  const jobEvent = (type: object) => ({
    ...JobEvent,
    properties: { ...JobEvent.properties, type, data: ref('components/schemas/Job') },
  })
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Events of jobs',
      version: '1',
      description: 'What is told of jobs as they go on. The requests are described at /openapi.json.',
    },
    defaultContentType: 'application/json',
    servers: {
      http: { host, protocol: protocol.slice(0, -1) },
      websocket: { host, protocol: protocol === 'https:' ? 'wss' : 'ws' },
    },
    channels: {
      job: channel(
        '/jobs/{id}/events',
        'One job, until its end; 204 to who has been told it. Last-Event-ID, or the parameter lastEventId, resumes.',
        ['status', 'progress'],
        {
          servers: [ref('servers/http')],
          parameters: { id: { description: 'The id of the job' } },
        },
      ),
      jobs: channel(
        '/events',
        "All the caller's jobs; begins with the newest 100, or resumes after Last-Event-ID.",
        ['status', 'progress'],
        {
          servers: [ref('servers/http')],
        },
      ),
      socket: channel(
        '/events',
        `WebSocket, subprotocol ${subprotocol}: one CloudEvent per text frame, of the jobs that the client subscribes to, or of all.`,
        ['jobEvent', 'subscription', 'error'],
        { servers: [ref('servers/websocket')], bindings: { ws: { method: 'GET' } } },
      ),
      webhook: channel(undefined, 'An endpoint that was registered, told when a job ends.', ['jobEnded']),
    },
    operations: {
      sendJobEvents: operation('send', 'job', 'Tells the changes of a job'),
      sendAllEvents: operation('send', 'jobs', 'Tells the changes of all jobs of the caller'),
      sendSocketEvents: {
        ...operation('send', 'socket', 'Tells the changes of jobs'),
        messages: [ref('channels/socket/messages/jobEvent'), ref('channels/socket/messages/error')],
      },
      receiveSubscriptions: {
        ...operation('receive', 'socket', 'Chooses the jobs'),
        messages: [ref('channels/socket/messages/subscription')],
      },
      sendWebhooks: operation('send', 'webhook', 'Tells the end of a job'),
    },
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', description: 'An API key, when there are any' },
        signature: {
          type: 'httpApiKey',
          name: 'webhook-signature',
          in: 'header',
          description: 'Standard Webhooks: check it with the secret of the endpoint',
        },
      },
      messages: {
        status: {
          title: 'A job, after any change',
          contentType: sse,
          description: 'The id of the event is the sequence of the job; on /events an opaque cursor.',
          payload: ref('components/schemas/Job'),
        },
        progress: {
          title: 'How far a running job is',
          contentType: sse,
          description: 'On /events with the id of the job.',
          payload: ref('components/schemas/Progress'),
        },
        jobEvent: {
          title: 'A job, as a CloudEvent',
          contentType: 'application/cloudevents+json',
          payload: ref('components/schemas/JobEvent'),
        },
        jobEnded: {
          title: 'A job that has ended, as a CloudEvent',
          contentType: 'application/cloudevents+json',
          description: 'Signed per Standard Webhooks; the id stays the same over all attempts.',
          headers: {
            type: 'object',
            required: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
            properties: {
              'webhook-id': { type: 'string', description: 'The id of the delivery' },
              'webhook-timestamp': { type: 'string', pattern: '^[0-9]+$', description: 'Seconds since 1970' },
              'webhook-signature': { type: 'string', description: 'One or more `v1,<base64>`, separated by spaces' },
            },
          },
          payload: ref('components/schemas/JobEnded'),
        },
        subscription: { title: 'Which jobs to tell of', payload: ref('components/schemas/Subscription') },
        error: {
          title: 'Something the client sent cannot be done',
          contentType: 'application/cloudevents+json',
          payload: ref('components/schemas/Error'),
        },
      },
      schemas: {
        Job: Monitor,
        Progress: { ...Progress, properties: { id: Monitor.properties.id, ...Progress.properties } },
        JobEvent: jobEvent(JobEvent.properties.type),
        JobEnded: jobEvent({ type: 'string', enum: ['job.succeeded', 'job.failed', 'job.canceled'] }),
        Subscription: {
          type: 'object',
          properties: {
            subscribe: { type: 'array', items: { type: 'string', format: 'uuid' } },
            unsubscribe: { type: 'array', items: { type: 'string', format: 'uuid' } },
          },
        },
        Error: {
          type: 'object',
          required: ['type', 'data'],
          properties: {
            type: { const: 'error' },
            subject: { type: 'string', description: 'The id that was asked for' },
            data: {
              type: 'object',
              properties: {
                error: {
                  type: 'object',
                  properties: { code: { type: 'string' }, message: { type: 'string' } },
                },
              },
            },
          },
        },
      },
    },
  }
}
