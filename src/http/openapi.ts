import type { SwaggerOptions } from '@fastify/swagger'
import Type, { type TSchema } from 'typebox'
import { Monitor } from '../jobs/monitor.ts'

/** A CloudEvent about a job, in JSON. */
export const JobEvent = Type.Object(
  {
    specversion: Type.Literal('1.0'),
    id: Type.String({ description: 'The same state of a job has the same id' }),
    source: Type.String({ format: 'uri-reference' }),
    type: Type.Enum(['job.queued', 'job.running', 'job.succeeded', 'job.failed', 'job.canceled']),
    subject: Type.String({ format: 'uuid', description: 'The id of the job' }),
    time: Type.String({ format: 'date-time' }),
    datacontenttype: Type.Literal('application/json'),
    data: Monitor,
  },
  { title: 'JobEvent', description: 'CloudEvents 1.0' },
)

const parameter = (name: string, description: string, schema: object = { type: 'string' }) => ({
  name,
  in: 'header' as const,
  required: true,
  description,
  schema,
})

/** What an endpoint is sent when a job has ended, signed per Standard Webhooks. */
export const jobEnded = {
  post: {
    operationId: 'jobEnded',
    summary: 'A job has ended',
    tags: ['webhooks'],
    security: [],
    parameters: [
      parameter('webhook-id', 'The same over all attempts of a delivery: de-duplicate by it'),
      parameter('webhook-timestamp', 'When this attempt was made, in seconds since 1970', { type: 'integer' }),
      parameter('webhook-signature', 'One signature per active secret, separated by spaces'),
    ],
    requestBody: { required: true, content: { 'application/cloudevents+json': { schema: JobEvent } } },
    responses: {
      '2XX': { description: 'Received. It need not be processed yet.' },
      410: { description: 'No more, please: the endpoint is disabled.' },
      default: { description: 'Not received: sent again later, after Retry-After at the earliest.' },
    },
  },
}

/** Links from a job to what can be done with it. */
export const jobLinks = {
  status: link('getJob', 'The status'),
  result: link('getJobResult', 'Where it led'),
  events: link('getJobEvents', 'Its changes'),
  cancel: link('cancelJob', 'Cancel it'),
  retry: link('retryJob', 'Run it again, once failed or canceled'),
}

function link(operationId: string, description: string) {
  return { operationId, description, parameters: { id: '$response.body#/id' } }
}

/** The OpenAPI document, apart from the routes. */
export const documentOptions: SwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'API',
      version: '1',
      description:
        'Requests that start work are answered `202 Accepted` once they are durable. `Location` leads to the result, ' +
        '`Operation-Location` to the status of the job. The document of the events is at /asyncapi.json.',
    },
    tags: [
      { name: 'operations', description: 'Requests that become jobs' },
      { name: 'jobs', description: 'Status, result, cancel, retry' },
      { name: 'events', description: 'Changes of jobs, as they happen' },
      { name: 'webhooks', description: 'Endpoints that are told the end of jobs' },
    ],
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', description: 'An API key (`accepted keys add`)' } },
    },
    security: [{ bearer: [] }, {}],
    webhooks: { jobEnded } as never,
  },
  transformObject: (document) =>
    ('openapiObject' in document ? hoistSchemas(complete(document.openapiObject)) : {}) as never,
}

/** Adds what @fastify/swagger drops or gets wrong. */
function complete<Document extends { paths?: object }>(document: Document): Document {
  const paths = (document.paths ?? {}) as Record<string, Record<string, { callbacks?: object; requestBody?: object }>>
  // Registering an endpoint is what leads to its being called.
  const callback = { post: { ...jobEnded.post, operationId: 'deliverWebhook' } }
  Object.assign(paths['/webhooks']?.post ?? {}, { callbacks: { jobEnded: { '{$request.body#/url}': callback } } })
  for (const { delete: operation } of Object.values(paths)) {
    if (operation?.requestBody) Object.assign(operation.requestBody, { required: false })
  }
  return document
}

/** Moves schemas with a title of ours to the components, so that tools that make types name them. */
function hoistSchemas<Document extends object>(document: Document): Document {
  const schemas: Record<string, object> = {}
  const names = ['Job', 'Jobs', 'JobEvent', 'Problem', 'Ended', 'WebhookEndpoint', 'WebhookEndpointWithSecret']
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== 'object' || value === null) return value
    const copy = Object.fromEntries(Object.entries(value).map(([name, member]) => [name, walk(member)]))
    const { title } = value as TSchema & { title?: string }
    if (typeof title !== 'string' || !names.includes(title) || !('type' in value)) return copy
    schemas[title] = copy
    return { $ref: `#/components/schemas/${title}` }
  }
  const hoisted = walk(document) as Document & { components: { schemas?: object } }
  return { ...hoisted, components: { ...hoisted.components, schemas: { ...hoisted.components.schemas, ...schemas } } }
}
