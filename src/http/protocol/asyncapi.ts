import { Monitor, Progress } from '../../jobs/monitor-schema.ts'
import type { Site } from '../../jobs/site.ts'
import type { RoutePaths } from '../route-paths.ts'
import { subprotocol } from '../streams/websocket.ts'
import { JobEvent } from './openapi.ts'

/**
 * Returns the AsyncAPI document. It describes the job events that clients receive over server-sent events, WebSocket
 * and webhooks.
 *
 * @param site the URLs of the API
 */
export function describeEvents(site: Site, { jobs, events }: RoutePaths): object {
  const { protocol, host, pathname } = new URL(site.url)
  const server = { host, ...(pathname !== '/' && { pathname }) }
  const channels = describeChannels(jobs, `${events}`)
  const isServed = (name: string) => events !== false || (name !== 'jobs' && name !== 'socket')
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Job events',
      version: '1',
      description: 'The events that clients receive about their jobs. Requests are described in openapi.json.',
    },
    defaultContentType: 'application/json',
    servers: {
      http: { ...server, protocol: protocol.slice(0, -1) },
      websocket: { ...server, protocol: protocol === 'https:' ? 'wss' : 'ws' },
    },
    channels: Object.fromEntries(Object.entries(channels).filter(([name]) => isServed(name))),
    operations: Object.fromEntries(
      Object.entries(asyncApiOperations).filter(([, { channel }]) =>
        isServed(channel.$ref.split('/').at(-1) as string),
      ),
    ),
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

const describeChannels = (jobs: string, events: string) => ({
  job: channel(
    `${jobs}/{id}/events`,
    'The changes of one job, until the job ends. To resume the stream, send Last-Event-ID or the query parameter ' +
      'lastEventId. A client that has already received the final event gets 204.',
    ['status', 'progress'],
    { servers: [ref('servers/http')], parameters: { id: { description: 'The id of the job' } } },
  ),
  jobs: channel(
    events,
    'The changes of all jobs of the caller. The stream starts with the newest 100 jobs, without results. With a ' +
      'recent Last-Event-ID, it resumes after that event instead.',
    ['status', 'progress'],
    { servers: [ref('servers/http')] },
  ),
  socket: channel(
    events,
    `A WebSocket with the subprotocol ${subprotocol}. Each text frame contains one CloudEvent. A client without ` +
      'subscriptions receives the changes of all its jobs. A client with subscriptions receives only the changes of ' +
      'the subscribed jobs.',
    ['jobEvent', 'subscription', 'error'],
    { servers: [ref('servers/websocket')], bindings: { ws: { method: 'GET' } } },
  ),
  webhook: channel(undefined, 'A registered endpoint, which is notified when a job ends.', ['jobEnded']),
})

const operation = (
  action: 'send' | 'receive',
  channelName: keyof ReturnType<typeof describeChannels>,
  summary: string,
) => ({
  action,
  summary,
  channel: ref(`channels/${channelName}`),
  security: [ref(`components/securitySchemes/${channelName === 'webhook' ? 'signature' : 'bearer'}`)],
})

const asyncApiOperations = {
  sendJobEvents: operation('send', 'job', 'Sends the changes of a job'),
  sendAllEvents: operation('send', 'jobs', 'Sends the changes of all jobs of the caller'),
  sendSocketEvents: {
    ...operation('send', 'socket', 'Sends the changes of the selected jobs'),
    messages: [ref('channels/socket/messages/jobEvent'), ref('channels/socket/messages/error')],
  },
  receiveSubscriptions: {
    ...operation('receive', 'socket', 'Receives the ids of the jobs that the client selects'),
    messages: [ref('channels/socket/messages/subscription')],
  },
  sendWebhooks: operation('send', 'webhook', 'Notifies an endpoint that a job has ended'),
}

const securitySchemes = {
  bearer: { type: 'http', scheme: 'bearer', description: 'An API key. Not needed while no API key exists.' },
  signature: {
    type: 'httpApiKey',
    name: 'webhook-signature',
    in: 'header',
    description: 'A signature as Standard Webhooks specifies. Verify it with the secret of the endpoint.',
  },
}

const sse = 'text/event-stream'
const cloudEvent = 'application/cloudevents+json'

const messages = {
  status: {
    title: 'The status of a job after a change',
    contentType: sse,
    description:
      'On the stream of one job, the id of the event is the sequence of the job. On the stream of all jobs, it is an ' +
      'opaque cursor.',
    payload: ref('components/schemas/Job'),
  },
  progress: {
    title: 'The progress of a running job',
    contentType: sse,
    description: 'On the stream of all jobs, the event also contains the id of the job.',
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
    description:
      'The request is signed as Standard Webhooks specifies. All attempts of a delivery have the same webhook-id.',
    headers: {
      type: 'object',
      required: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
      properties: {
        'webhook-id': { type: 'string', description: 'The id of the delivery' },
        'webhook-timestamp': {
          type: 'string',
          pattern: '^[0-9]+$',
          description: 'The time of the attempt, in seconds since 1970',
        },
        'webhook-signature': {
          type: 'string',
          description: 'One or more signatures like `v1,<base64>`, separated by spaces',
        },
      },
    },
    payload: ref('components/schemas/JobEnded'),
  },
  subscription: {
    title: 'The jobs to subscribe to or unsubscribe from',
    payload: ref('components/schemas/Subscription'),
  },
  error: {
    title: 'The answer to an invalid message or to a failed subscription',
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
      subject: { type: 'string', description: 'The job id of the failed subscription' },
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
