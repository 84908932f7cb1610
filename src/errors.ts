/**
 * Every code a client can meet, apart from the codes an app's own `refuse` and `JobFailed` bring:
 * its HTTP status, what it means, and the way out. The documentation pages and the OpenAPI document are made from it.
 */
export const problems = {
  'malformed-json': {
    status: 400,
    title: 'The body is not JSON',
    remedy: 'Send valid JSON in UTF-8 with `Content-Type: application/json`.',
  },
  'invalid-body': {
    status: 400,
    title: 'The body does not match the schema',
    remedy: 'Each violation is listed with a JSON pointer to the value; the schema is in /openapi.json.',
  },
  'invalid-parameter': {
    status: 400,
    title: 'A parameter of the path or the query does not match the schema',
    remedy: 'Each violation is listed with a JSON pointer to the value; the schema is in /openapi.json.',
  },
  'invalid-idempotency-key': {
    status: 400,
    title: 'The Idempotency-Key is not usable',
    remedy: 'Send one Idempotency-Key of 1 to 255 printable ASCII characters; a UUID serves well.',
  },
  'idempotency-key-required': {
    status: 400,
    title: 'This operation needs an Idempotency-Key',
    remedy: 'Send an Idempotency-Key, new for each intent and the same for each repetition of it.',
  },
  'unknown-webhook': {
    status: 400,
    title: 'Accepted-Webhook names no webhook endpoint',
    remedy:
      'Send the id of one endpoint that is registered, or no Accepted-Webhook to tell every endpoint that matches.',
  },
  unauthenticated: {
    status: 401,
    title: 'The request names no known principal',
    remedy: 'Send `Authorization: Bearer <key>` with a key that is not revoked.',
  },
  'foreign-origin': {
    status: 403,
    title: 'A page of another origin may not open a WebSocket here',
    remedy: 'Serve the page from the origin of the API, or follow the jobs over server-sent events with fetch.',
  },
  forbidden: {
    status: 403,
    title: 'This is for administrators',
    remedy:
      'Send a key with the scope admin (`accepted keys add ops --admin` makes one), or let the `authenticate` of the app answer `{ principal, scopes: ["admin"] }`. On the server, `accepted webhooks` needs no scope.',
  },
  'not-found': {
    status: 404,
    title: 'There is nothing here, or nothing of yours',
    remedy: 'Check the address; jobs are visible to the principal that asked for them only.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'There is something here, but not for this method',
    remedy: 'The header Allow lists the methods.',
  },
  'not-acceptable': {
    status: 406,
    title: 'There is no representation of the kind that Accept asks for',
    remedy: 'Send `Accept: application/json`, or no Accept at all; jobs also come as text/event-stream and text/html.',
  },
  'request-timeout': {
    status: 408,
    title: 'The request did not arrive whole in time',
    remedy: 'Nothing was stored. Repeat the request, under its Idempotency-Key if it has one.',
  },
  'idempotency-key-locked': {
    status: 409,
    title: 'A request with this Idempotency-Key is still being accepted',
    remedy: 'Repeat the request after Retry-After seconds; it will find the job of the first one.',
  },
  'operation-canceled': {
    status: 409,
    title: 'The job was canceled',
    remedy: 'Nothing of it took effect. Send the request again, under a new Idempotency-Key, if it is still wanted.',
  },
  'job-ended': {
    status: 409,
    title: 'The job has ended already and cannot be canceled',
    remedy: 'Its status says how it ended. What it did stays done.',
  },
  'job-not-retryable': {
    status: 409,
    title: 'Only a failed or canceled job can be retried',
    remedy: 'Wait for its end, or send the original request again under a new Idempotency-Key.',
  },
  'job-expired': {
    status: 410,
    title: 'The record of this job has expired',
    remedy: 'Records are kept for some days after the end (`expiresAt`); the resource itself may still be there.',
  },
  'precondition-failed': {
    status: 412,
    title: 'The job has changed since',
    remedy: 'Read the job again and repeat the request with its new ETag in If-Match, or without If-Match.',
  },
  'body-too-large': {
    status: 413,
    title: 'The body is too large',
    remedy: 'Send less, or in parts.',
  },
  'unsupported-media-type': {
    status: 415,
    title: 'The body has a media type that is not understood here',
    remedy: 'Send `Content-Type: application/json`.',
  },
  'idempotency-key-reused': {
    status: 422,
    title: 'The Idempotency-Key was used for another request',
    remedy: 'Send a new Idempotency-Key for a new intent; repeat the same body under the same key.',
  },
  'job-failed': {
    status: 424,
    title: 'The job failed',
    remedy: 'The member `error` says why; the member `job` is its status.',
  },
  'headers-too-large': {
    status: 431,
    title: 'The request has too many header fields, or too large ones',
    remedy: 'Nothing was stored. Send at most 100 header fields, together of at most 16 KiB.',
  },
  'too-many-requests': {
    status: 429,
    title: 'This principal has sent too many requests',
    remedy: 'Nothing was stored. Repeat the request after Retry-After seconds; the header RateLimit says what is left.',
  },
  'bad-request': {
    status: 400,
    title: 'The request is malformed',
    remedy: 'The member `detail` says what about it.',
  },
  'internal-error': {
    status: 500,
    title: 'Something went wrong here',
    remedy: 'Nothing was stored. Try again later; the log of the API names the cause.',
  },
  'invalid-message': {
    status: 400,
    title: 'The message is not understood',
    remedy: 'Send `{"subscribe":["<job id>"]}` or `{"unsubscribe":["<job id>"]}` as a text frame.',
  },
  'backlog-full': {
    status: 503,
    title: 'Too many jobs of this kind are waiting',
    remedy: 'Nothing was stored. Repeat the request after Retry-After seconds.',
  },
  'job-locked': {
    status: 503,
    title: 'The job is just being settled',
    remedy: 'Nothing was changed. Repeat the request after Retry-After seconds.',
  },
  'schema-outdated': {
    status: 503,
    title: 'The schema of the database is not the one this program was built for',
    remedy: 'Run `accepted migrate`; nothing else has to be restarted.',
  },
  'database-unavailable': {
    status: 503,
    title: 'The database does not answer',
    remedy: 'Repeat the request after Retry-After seconds, under its Idempotency-Key if it has one.',
  },
} as const satisfies Record<string, { status: number; title: string; remedy: string }>

export type ProblemCode = keyof typeof problems

/** An error that ends a request, with a code from the closed list. */
export class ProblemError extends Error {
  override name = 'ProblemError'
  readonly code: ProblemCode
  readonly status: number
  readonly details: readonly unknown[]
  readonly retryAfterSeconds: number | undefined

  /**
   * @param detail a sentence for the client, without internals
   * @param options.details one value per violation
   * @param options.retryAfterSeconds seconds for `Retry-After`, an integer ≥ 1
   */
  constructor(
    code: ProblemCode,
    detail: string = problems[code].title,
    options: { details?: readonly unknown[]; retryAfterSeconds?: number; cause?: unknown } = {},
  ) {
    super(detail, { cause: options.cause })
    this.code = code
    this.status = problems[code].status
    this.details = options.details ?? []
    this.retryAfterSeconds = options.retryAfterSeconds
  }
}
