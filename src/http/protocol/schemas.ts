import Type, { type TSchema } from 'typebox'
import { Monitor } from '../../jobs/monitor-schema.ts'
import type { Operation } from '../../operation.ts'
import { type ProblemCode, problems } from '../../problems.ts'
import { Problem } from './problem.ts'

/** The header fields of responses, as the OpenAPI document describes them. */
export const headerFields = {
  'Operation-Location': Type.String({
    format: 'uri',
    description: 'The URL of the job status. It answers 200 until the record of the job expires.',
  }),
  'Content-Location': Type.String({
    format: 'uri',
    description: 'The URL of the job status, which is also the body of this response',
  }),
  Location: Type.String({ format: 'uri-reference', description: 'The next URL to request' }),
  'Retry-After': Type.Integer({ minimum: 1, description: 'Seconds to wait before the next request' }),
  'Preference-Applied': Type.String({ description: 'The preferences that were honoured (RFC 7240)' }),
  'Idempotent-Replayed': Type.Literal('true', {
    description: 'The job was created by an earlier request with the same Idempotency-Key',
  }),
  ETag: Type.String({ pattern: '^"[0-9]+"$', description: 'The sequence of the job, in quotes' }),
  'Cache-Control': Type.String(),
  Vary: Type.String(),
  Link: Type.String({ description: 'The next page: `<…>; rel="next"` (RFC 8288)' }),
  'WWW-Authenticate': Type.String(),
  RateLimit: Type.String({
    description: 'The number of requests left in the quota, and the seconds until the quota is reset',
  }),
  'RateLimit-Policy': Type.String({
    description: 'The number of requests in the quota, and the length of its time window in seconds',
  }),
} as const

export type HeaderField = keyof typeof headerFields

export interface ResponseOptions {
  headers?: readonly HeaderField[]
}

// The RateLimit fields are sent unless the app has no rate limit.
const commonHeaders = ['Cache-Control', 'RateLimit', 'RateLimit-Policy'] as const satisfies HeaderField[]

const declareHeaders = (names: readonly HeaderField[] = []) => ({
  headers: Object.fromEntries([...names, ...commonHeaders].map((name) => [name, headerFields[name]])),
})

/** Adds header fields to declared responses. */
export const addHeaders = <Response extends object>(
  headers: readonly HeaderField[],
  responses: Record<string, Response>,
) =>
  Object.fromEntries(
    Object.entries(responses).map(([status, response]) => [
      status,
      {
        ...response,
        headers: { ...('headers' in response && Object(response.headers)), ...declareHeaders(headers).headers },
      },
    ]),
  )

/** Declares a response with a body. */
export const bodyResponse = (
  description: string,
  mediaType: string,
  schema: TSchema,
  options: ResponseOptions = {},
) => ({
  description,
  ...declareHeaders(options.headers),
  content: { [mediaType]: { schema } },
})

/** Declares a response without a body. */
export const emptyResponse = (description: string, options: ResponseOptions = {}) => ({
  description,
  ...declareHeaders(options.headers),
  type: 'null' as const,
})

/** Declares a response whose body is the monitor document of a job. */
export const monitorResponse = (description: string, options?: ResponseOptions) =>
  bodyResponse(description, 'application/json', Monitor, options)

/** The header fields of a 202 response. */
export const acceptedHeaders = [
  ...(['Operation-Location', 'Content-Location', 'Location', 'Retry-After'] as const),
  ...(['Preference-Applied', 'Idempotent-Replayed'] as const),
] satisfies HeaderField[]

const endedHeaders = acceptedHeaders.filter((name) => name !== 'Retry-After')

/**
 * Declares the 200 response to a request with `Prefer: wait` whose job ends in time.
 *
 * @param operations the body may contain the inline result of one of these operations
 */
export const endedResponse = (...operations: Operation[]) =>
  bodyResponse(
    'The job ended while the request waited. The body is the job status or, with `Prefer: return=representation`, ' +
      'the inline result.',
    'application/json',
    oneOf(Monitor, ...operations.flatMap(({ schemas }) => schemas.result ?? [])),
    { headers: endedHeaders },
  )

/** Declares the 303 response to a request with `Prefer: wait, return=representation` whose job succeeds in time. */
export const resourceResponse = () =>
  emptyResponse(
    'The job succeeded while the request with `Prefer: return=representation` waited. Location is its resource.',
    {
      headers: endedHeaders.filter((name) => name !== 'Content-Location'),
    },
  )

const oneOf = (...schemas: [TSchema, ...TSchema[]]) => (schemas.length > 1 ? Type.Union(schemas) : schemas[0])

/** Every route may answer with these problems. */
const commonProblems: ProblemCode[] = [
  'unauthenticated',
  'too-many-requests',
  'bad-request',
  'not-acceptable',
  'request-timeout',
  'expectation-failed',
  'misdirected-request',
  'headers-too-large',
  'internal-error',
  'overloaded',
  'database-unavailable',
]

/** Declares the error responses of a route by HTTP status: the given problems and {@link commonProblems}. */
export function problemResponses(...codes: ProblemCode[]) {
  const codesByStatus = Map.groupBy([...codes, ...commonProblems], (code) => problems[code].status)
  return Object.fromEntries(
    [...codesByStatus].map(([status, sameStatus]) => {
      const description = sameStatus.map((code) => `\`${code}\`: ${problems[code].title}`).join('; ')
      const hasRetryAfter = status === 429 || status === 503 || sameStatus.includes('idempotency-key-locked')
      const headers: HeaderField[] = [
        ...(hasRetryAfter ? (['Retry-After'] as const) : []),
        ...(status === 401 ? (['WWW-Authenticate'] as const) : []),
      ]
      return [status, bodyResponse(description, 'application/problem+json', Problem, { headers })]
    }),
  )
}
