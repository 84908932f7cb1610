import { Monitor, Progress } from '../../jobs/monitor.ts'
import { subprotocol } from '../streams/websocket.ts'
import { JobEvent } from './openapi.ts'

/**
 * Returns the AsyncAPI document, which describes the events of jobs over server-sent events, WebSocket and webhooks.
 *
 * @param origin scheme and host of the API
 */
export function describeEvents(origin: string): object {
  const { protocol, host } = new URL(origin)
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Job events',
      version: '1',
      description: 'The events that clients receive about their jobs. Requests are described at /openapi.json.',
    },
    defaultContentType: 'application/json',
    servers: {
      http: { host, protocol: protocol.slice(0, -1) },
      websocket: { host, protocol: protocol === 'https:' ? 'wss' : 'ws' },
    },
    channels,
    operations,
    components: { securitySchemes, messages, schemas },
  }
}

const ref = (path: string) => ({ $ref: `#/${path}` })

const channel = (address: string | undefined, description: string, messageNames: readonly string[], more = {}) => ({
  ...(address && { address }),
  description,
  messages: Object.fromEntries(messageNames.map((name) => [name, ref(`components/messages/${name}`)])),
  ...more,
})

const channels = {
  job: channel(
    '/jobs/{id}/events',
    'The changes of one job until it ends. Last-Event-ID, or the parameter lastEventId, resumes the stream. A client ' +
      'that has received the final event gets 204.',
    ['status', 'progress'],
    { servers: [ref('servers/http')], parameters: { id: { description: 'The id of the job' } } },
  ),
  jobs: channel(
    '/events',
    'The changes of all jobs of the caller. Starts with the newest 100 jobs, or resumes after Last-Event-ID.',
    ['status', 'progress'],
    { servers: [ref('servers/http')] },
  ),
  socket: channel(
    '/events',
    `A WebSocket with the subprotocol ${subprotocol}: one CloudEvent per text frame, about the jobs that the client ` +
      'subscribes to, or about all its jobs while it has no subscription.',
    ['jobEvent', 'subscription', 'error'],
    { servers: [ref('servers/websocket')], bindings: { ws: { method: 'GET' } } },
  ),
  webhook: channel(undefined, 'A registered endpoint, which is notified when a job ends.', ['jobEnded']),
}

const operation = (action: 'send' | 'receive', channelName: keyof typeof channels, summary: string) => ({
  action,
  summary,
  channel: ref(`channels/${channelName}`),
  security: [ref(`components/securitySchemes/${channelName === 'webhook' ? 'signature' : 'bearer'}`)],
})

const operations = {
  sendJobEvents: operation('send', 'job', 'Sends the changes of a job'),
  sendAllEvents: operation('send', 'jobs', 'Sends the changes of all jobs of the caller'),
  sendSocketEvents: {
    ...operation('send', 'socket', 'Sends the changes of the selected jobs'),
    messages: [ref('channels/socket/messages/jobEvent'), ref('channels/socket/messages/error')],
  },
  receiveSubscriptions: {
    ...operation('receive', 'socket', 'Selects the jobs'),
    messages: [ref('channels/socket/messages/subscription')],
  },
  sendWebhooks: operation('send', 'webhook', 'Notifies an endpoint that a job has ended'),
}

const securitySchemes = {
  bearer: { type: 'http', scheme: 'bearer', description: 'An API key, if the API has any' },
  signature: {
    type: 'httpApiKey',
    name: 'webhook-signature',
    in: 'header',
    description: 'A signature as Standard Webhooks specifies; verify it with the secret of the endpoint',
  },
}

const sse = 'text/event-stream'
const cloudEvent = 'application/cloudevents+json'

const messages = {
  status: {
    title: 'The status of a job after a change',
    contentType: sse,
    description: 'The id of the event is the sequence of the job; on /events it is an opaque cursor.',
    payload: ref('components/schemas/Job'),
  },
  progress: {
    title: 'The progress of a running job',
    contentType: sse,
    description: 'On /events it also carries the id of the job.',
    payload: ref('components/schemas/Progress'),
  },
  jobEvent: {
    title: 'The status of a job, as a CloudEvent',
    contentType: cloudEvent,
    payload: ref('components/schemas/JobEvent'),
  },
  jobEnded: {
    title: 'The status of a job that has ended, as a CloudEvent',
    contentType: cloudEvent,
    description: 'Signed as Standard Webhooks specifies. All attempts of a delivery have the same id.',
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
  subscription: {
    title: 'The jobs to subscribe to or unsubscribe from',
    payload: ref('components/schemas/Subscription'),
  },
  error: {
    title: 'The answer to a message that cannot be served',
    contentType: cloudEvent,
    payload: ref('components/schemas/Error'),
  },
}

const jobEventWith = (type: object) => ({
  ...JobEvent,
  properties: { ...JobEvent.properties, type, data: ref('components/schemas/Job') },
})

const idList = { type: 'array', items: { type: 'string', format: 'uuid' } }

const schemas = {
  Job: Monitor,
  Progress: { ...Progress, properties: { id: Monitor.properties.id, ...Progress.properties } },
  JobEvent: jobEventWith(JobEvent.properties.type),
  JobEnded: jobEventWith({ type: 'string', enum: ['job.succeeded', 'job.failed', 'job.canceled'] }),
  Subscription: { type: 'object', properties: { subscribe: idList, unsubscribe: idList } },
  Error: {
    type: 'object',
    required: ['type', 'data'],
    properties: {
      type: { const: 'error' },
      subject: { type: 'string', description: 'The id in the message of the client' },
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
}
