import swagger, { type FastifyDynamicSwaggerOptions } from '@fastify/swagger'
import type { FastifyInstance, RouteOptions } from 'fastify'
import Type, { type TSchema } from 'typebox'
import { Monitor } from '../../jobs/monitor-schema.ts'
import type { Mount } from '../route-paths.ts'

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

// The host app may have a document of its own, with @fastify/swagger's default decorator.
const decorator = 'acceptedDocument'

/** The routes of this plugin that the document describes. For any other document of the app, they are hidden. */
const documentedRoutes = new WeakSet<RouteOptions>()

/** Keeps the routes that are added to a scope out of every OpenAPI document except that of {@link documentRoutes}. */
export function hideFromOtherDocuments(scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => {
    if (route.schema?.hide) return
    documentedRoutes.add(route)
    route.schema = { ...route.schema, hide: true }
  })
}

/** Starts the OpenAPI document of the routes that are added to a scope, unless an outer scope has started it. */
export async function documentRoutes(
  scope: FastifyInstance,
  mount: Pick<Mount, 'prefix' | 'publicPath' | 'paths'>,
): Promise<void> {
  if (!scope.hasDecorator(decorator)) await scope.register(swagger, documentOptions(mount))
}

/** Returns the OpenAPI document of a scope. Call it after the app is ready. */
export function readDocument(scope: FastifyInstance): object
export function readDocument(scope: FastifyInstance, options: { yaml: true }): string
export function readDocument(scope: FastifyInstance, options?: { yaml: true }): object | string {
  return scope.getDecorator<(options?: object) => object | string>(decorator)(options)
}

const documentOptions = ({
  prefix,
  publicPath,
  paths,
}: Pick<Mount, 'prefix' | 'publicPath' | 'paths'>): FastifyDynamicSwaggerOptions => ({
  decorator: decorator as never,
  stripBasePath: false,
  openapi: {
    openapi: '3.1.0',
    // Relative to the URL of the document, so that it is the same for every host.
    ...(publicPath + prefix && { servers: [{ url: publicPath + prefix }] }),
    info: {
      title: 'API',
      version: '1',
      description:
        'A request that starts work is stored as a job and then answered with `202 Accepted`. `Location` is the URL ' +
        'of the result. `Operation-Location` is the URL of the status. Events are described in asyncapi.json.',
    },
    tags: [
      { name: 'operations', description: 'Requests that start a job' },
      { name: 'jobs', description: 'Status, result, cancel and retry' },
      { name: 'events', description: 'Live changes of jobs' },
      { name: 'keys', description: 'API keys; these routes require the scope admin' },
      { name: 'webhooks', description: 'Endpoints that are notified when jobs end' },
    ],
    components: {
      securitySchemes: { bearer: { type: 'http', scheme: 'bearer', description: 'An API key (`accepted keys add`)' } },
    },
    security: [{ bearer: [] }, {}],
    webhooks: { jobEnded } as never,
  },
  transform: ({ schema, url, route }) => ({
    schema: documentedRoutes.has(route) && !isBelow(url, prefix, paths.console) ? { ...schema, hide: false } : schema,
    url: url.startsWith(`${prefix}/`) ? url.slice(prefix.length) : url,
  }),
  transformObject: (document) =>
    ('openapiObject' in document ? hoistSchemas(correctDocument(document.openapiObject, paths)) : {}) as never,
})

/** Returns whether a route is at a path or below it. */
const isBelow = (url: string, prefix: string, path: string | false): boolean =>
  path !== false && `${url}/`.startsWith(`${prefix}${path}/`)

/** Adds the parts that @fastify/swagger leaves out, and corrects its mistakes. */
function correctDocument<Document extends { paths?: object }>(
  document: Document,
  { webhooks }: Mount['paths'],
): Document {
  const paths = (document.paths ?? {}) as Record<string, Record<string, { callbacks?: object; requestBody?: object }>>
  // In OpenAPI, the requests to a webhook endpoint are callbacks of the request that registers the endpoint.
  const callback = { post: { ...jobEnded.post, operationId: 'deliverWebhook' } }
  Object.assign(paths[`${webhooks}`]?.post ?? {}, { callbacks: { jobEnded: { '{$request.body#/url}': callback } } })
  for (const { delete: operation } of Object.values(paths)) {
    if (operation?.requestBody) Object.assign(operation.requestBody, { required: false })
  }
  return document
}

/** The titles of the schemas that become components. Code generators use these titles as type names. */
const componentTitles: readonly string[] = [
  ...['Job', 'JobSummary', 'Jobs', 'JobEvent', 'Problem', 'JobProblem'],
  ...['WebhookEndpoint', 'WebhookEndpointWithSecret', 'ApiKey', 'ApiKeyWithSecret'],
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
