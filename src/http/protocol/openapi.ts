import type { SwaggerOptions } from '@fastify/swagger'
import Type, { type TSchema } from 'typebox'
import { Monitor } from '../../jobs/monitor.ts'

/** A CloudEvent in JSON that contains the status of a job. */
export const JobEvent = Type.Object(
  {
    specversion: Type.Literal('1.0'),
    id: Type.String({
      description: 'The job id and the sequence of the job. Use it to detect an event that arrives twice.',
    }),
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

/** The request that a webhook endpoint receives when a job has ended. It is signed as Standard Webhooks specifies. */
export const jobEnded = {
  post: {
    operationId: 'jobEnded',
    summary: 'A job has ended',
    tags: ['webhooks'],
    security: [],
    parameters: [
      parameter(
        'webhook-id',
        'The id of the delivery. All its attempts have the same id. Use it to detect duplicates.',
      ),
      parameter('webhook-timestamp', 'The time of this attempt, in seconds since 1970', { type: 'integer' }),
      parameter('webhook-signature', 'One signature for each active secret, separated by spaces'),
    ],
    requestBody: { required: true, content: { 'application/cloudevents+json': { schema: JobEvent } } },
    responses: {
      '2XX': { description: 'The event was received. The endpoint may process it later.' },
      410: { description: 'The endpoint wants no more events. The API disables the endpoint.' },
      default: { description: 'The event was not received. The API sends it again later, and respects Retry-After.' },
    },
  },
}

/** OpenAPI links from a job to the requests that read, cancel or retry it. */
export const jobLinks = {
  status: link('getJob', 'The status of the job'),
  result: link('getJobResult', 'The result of the job'),
  events: link('getJobEvents', 'The changes of the job'),
  cancel: link('cancelJob', 'Cancel the job'),
  retry: link('retryJob', 'Retry the job after it failed or was canceled'),
}

function link(operationId: string, description: string) {
  return { operationId, description, parameters: { id: '$response.body#/id' } }
}

/** The parts of the OpenAPI document that are not generated from routes. */
export const documentOptions: SwaggerOptions = {
  openapi: {
    openapi: '3.1.0',
    info: {
      title: 'API',
      version: '1',
      description:
        'A request that starts work is stored as a job and then answered with `202 Accepted`. `Location` is the URL ' +
        'of the result. `Operation-Location` is the URL of the status. Events are described at /asyncapi.json.',
    },
    tags: [
      { name: 'operations', description: 'Requests that start a job' },
      { name: 'jobs', description: 'Status, result, cancel and retry' },
      { name: 'events', description: 'Live changes of jobs' },
      { name: 'webhooks', description: 'Endpoints that are notified when jobs end' },
    ],
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', description: 'An API key (`accepted keys add`)' } },
    },
    security: [{ bearer: [] }, {}],
    webhooks: { jobEnded } as never,
  },
  transformObject: (document) =>
    ('openapiObject' in document ? hoistSchemas(correctDocument(document.openapiObject)) : {}) as never,
}

/** Adds the parts that @fastify/swagger leaves out, and corrects its mistakes. */
function correctDocument<Document extends { paths?: object }>(document: Document): Document {
  const paths = (document.paths ?? {}) as Record<string, Record<string, { callbacks?: object; requestBody?: object }>>
  // In OpenAPI, the requests to a webhook endpoint are callbacks of the request that registers the endpoint.
  const callback = { post: { ...jobEnded.post, operationId: 'deliverWebhook' } }
  Object.assign(paths['/webhooks']?.post ?? {}, { callbacks: { jobEnded: { '{$request.body#/url}': callback } } })
  for (const { delete: operation } of Object.values(paths)) {
    if (operation?.requestBody) Object.assign(operation.requestBody, { required: false })
  }
  return document
}

/** The titles of the schemas that become components. Code generators use these titles as type names. */
const componentTitles: readonly string[] = [
  ...['Job', 'Jobs', 'JobEvent', 'Problem', 'JobProblem', 'WebhookEndpoint', 'WebhookEndpointWithSecret'],
]

/** Moves the schemas whose title is in {@link componentTitles} to the components. */
function hoistSchemas<Document extends object>(document: Document): Document {
  const schemas: Record<string, object> = {}
  const walk = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(walk)
    if (typeof value !== 'object' || value === null) return value
    const copy = Object.fromEntries(Object.entries(value).map(([name, member]) => [name, walk(member)]))
    const { title } = value as TSchema & { title?: string }
    if (typeof title !== 'string' || !componentTitles.includes(title) || !('type' in value)) return copy
    schemas[title] = copy
    return { $ref: `#/components/schemas/${title}` }
  }
  const hoisted = walk(document) as Document & { components: { schemas?: object } }
  return { ...hoisted, components: { ...hoisted.components, schemas: { ...hoisted.components.schemas, ...schemas } } }
}
