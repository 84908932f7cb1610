import type { FastifyInstance, FastifyRequest } from 'fastify'
import { ProblemError } from '../../errors.ts'
import type { Service } from '../service.ts'
import { negotiate } from './negotiate.ts'

/** A form leads from the page of one job to the page of another, or back. */
type JobForm = FastifyRequest<{ Params: { id: string }; Querystring: { key?: unknown } }>

const isForm = (request: FastifyRequest): boolean =>
  request.routeOptions.config.acceptsForm === true &&
  negotiate(request, ['application/json', 'text/html']) === 'text/html'

/**
 * Makes the routes of a scope with `acceptsForm` take the forms of a job's page: instead of a JSON document, the browser
 * gets a redirect to the page of the job that the request is about. All other requests are answered in JSON.
 */
export function acceptForms(scope: FastifyInstance, service: Service): void {
  scope.addHook('onRequest', async (request) => {
    if (!isForm(request)) return void negotiate(request, ['application/json'])
    assertSameOrigin(service, request)
    // A form cannot send a header. Its key keeps two clicks from doing the same twice.
    const { key } = (request as JobForm).query
    if (typeof key === 'string') setHeader(request, 'idempotency-key', key)
  })
  scope.addHook('onSend', async (request, reply, payload) => {
    if (reply.statusCode >= 300 || !isForm(request)) return payload
    const job = `${reply.getHeader('content-location') ?? (request as JobForm).params.id}`.split('/').at(-1)
    for (const name of ['operation-location', 'content-location', 'retry-after', 'etag', 'content-type']) {
      reply.removeHeader(name)
    }
    // Relative to `/jobs/{id}/cancel`, so that it leads through the same proxy.
    reply.code(303).headers({ location: `../${job}`, 'cache-control': 'no-store' })
    return ''
  })
}

function setHeader({ raw: { headers, rawHeaders } }: FastifyRequest, name: string, value: string): void {
  headers[name] = value
  rawHeaders.push(name, value)
}

/**
 * Refuses forms on pages of other origins, because the browser may send a cookie with them that the app's `authenticate`
 * reads. Browsers send Sec-Fetch-Site over https and to this machine, and Origin always.
 *
 * @throws ProblemError foreign-origin
 */
export function assertSameOrigin({ siteOf }: Pick<Service, 'siteOf'>, request: FastifyRequest): void {
  const { 'sec-fetch-site': site, origin } = request.headers
  if (site === 'same-origin') return
  const host = origin && URL.parse(origin)?.host
  const isOwn = host !== undefined && [request.host, URL.parse(siteOf(request).url)?.host].includes(host)
  if (site === undefined && isOwn) return
  throw new ProblemError('foreign-origin', 'The form must be sent from a page of the API')
}
