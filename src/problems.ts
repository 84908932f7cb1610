/**
 * Every error code of the API with its HTTP status, its meaning and its remedy. An app adds its own codes with `refuse`
 * and `JobFailed`. The documentation pages and the OpenAPI document are generated from this table.
 */
export const problems = {
  'malformed-json': {
    status: 400,
    title: 'The body is not valid JSON',
    remedy: 'Send valid JSON in UTF-8 with `Content-Type: application/json`.',
  },
  'invalid-body': {
    status: 400,
    title: 'The body does not match the schema',
    remedy:
      'Correct the listed members. Each violation has a JSON pointer to the value; the schema is in /openapi.json.',
  },
  'invalid-parameter': {
    status: 400,
    title: 'A path or query parameter is invalid',
    remedy:
      'Correct the listed parameters. Each violation has a JSON pointer to the value; the schema is in /openapi.json.',
  },
  'invalid-idempotency-key': {
    status: 400,
    title: 'The Idempotency-Key is invalid',
    remedy: 'Send one Idempotency-Key of 1 to 255 printable ASCII characters, for example a UUID.',
  },
  'idempotency-key-required': {
    status: 400,
    title: 'This operation requires an Idempotency-Key',
    remedy: 'Send an Idempotency-Key. Use a new key for each new request, and the same key when you repeat a request.',
  },
  'unknown-webhook': {
    status: 400,
    title: 'Accepted-Webhook does not name a webhook endpoint',
    remedy: 'Send the id of one registered endpoint. To notify every matching endpoint, leave the header out.',
  },
  unauthenticated: {
    status: 401,
    title: 'The request is not authenticated',
    remedy: 'Send `Authorization: Bearer <key>` with a key that has neither expired nor been revoked.',
  },
  'foreign-origin': {
    status: 403,
    title: 'Pages of another origin may not open a WebSocket or send a form here',
    remedy:
      'Serve the page from the origin of the API. A page of another origin can follow jobs over server-sent events, and cancel and retry them, with fetch.',
  },
  forbidden: {
    status: 403,
    title: 'The credential does not permit this request',
    remedy:
      'Send a key with the scope that the error names. `accepted keys add <name> --scopes <scopes>` creates such a key. If the app has its own `authenticate` function, let the function return `{ principal, scopes }`. The command-line program requires no scope.',
  },
  'not-found': {
    status: 404,
    title: 'Not found, or not yours',
    remedy: 'Check the URL. A job is visible only to the principal that submitted it.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'The URL does not support this method',
    remedy: 'Use one of the methods in the header Allow.',
  },
  'not-acceptable': {
    status: 406,
    title: 'No representation matches the Accept header',
    remedy:
      'Send `Accept: application/json`, or no Accept header. Jobs are also available as text/event-stream and text/html.',
  },
  'request-timeout': {
    status: 408,
    title: 'The request took too long to arrive',
    remedy: 'Nothing was stored. Repeat the request, with its Idempotency-Key if it has one.',
  },
  'idempotency-key-locked': {
    status: 409,
    title: 'A request with this Idempotency-Key is still being accepted',
    remedy:
      'Repeat the request after Retry-After seconds. The repeated request then gets the job of the first request.',
  },
  'operation-canceled': {
    status: 409,
    title: 'The job was canceled',
    remedy: 'The job had no effects. To have the work done, send the request again with a new Idempotency-Key.',
  },
  'job-ended': {
    status: 409,
    title: 'The job has already ended and cannot be canceled',
    remedy: 'Read the status of the job to see how the job ended. Its effects remain.',
  },
  'job-not-ended': {
    status: 409,
    title: 'The job has not ended',
    remedy: 'Wait until the job has ended. Matching webhook endpoints are then notified.',
  },
  'job-not-retryable': {
    status: 409,
    title: 'Only a failed or canceled job can be retried',
    remedy: 'Wait until the job has ended, or send the original request again with a new Idempotency-Key.',
  },
  'job-expired': {
    status: 410,
    title: 'The record of this job has expired',
    remedy:
      'A record is kept until its `expiresAt`, some days after the job ends. The resource that the job created may still exist.',
  },
  'precondition-failed': {
    status: 412,
    title: 'The job has changed since it was read',
    remedy: 'Read the job again. Then repeat the request with its new ETag in If-Match, or without If-Match.',
  },
  'body-too-large': {
    status: 413,
    title: 'The body is too large',
    remedy: 'Send a smaller body, or split it over several requests.',
  },
  'misdirected-request': {
    status: 421,
    title: 'The API does not serve this host name',
    remedy:
      'Call the API by a name that it serves. The operator adds names with the environment variables HOSTS and PUBLIC_URL.',
  },
  'unsupported-media-type': {
    status: 415,
    title: 'The media type of the body is not supported',
    remedy: 'Send `Content-Type: application/json`, and no `Content-Encoding`.',
  },
  'expectation-failed': {
    status: 417,
    title: 'The API does not meet the expectation in the header Expect',
    remedy: 'Send no Expect header, or `Expect: 100-continue`.',
  },
  'idempotency-key-reused': {
    status: 422,
    title: 'The Idempotency-Key was used for a different request',
    remedy: 'Use a new Idempotency-Key for a new request. To repeat a request, send the same body with the same key.',
  },
  'job-failed': {
    status: 424,
    title: 'The job failed',
    remedy: 'Read the member `error` for the reason. The member `job` is the status of the job.',
  },
  'headers-too-large': {
    status: 431,
    title: 'The request has too many header fields, or its headers are too large',
    remedy: 'Nothing was stored. Send at most 100 header fields, of at most 16 KiB in total.',
  },
  'too-many-requests': {
    status: 429,
    title: 'Too many requests',
    remedy:
      'Nothing was stored. Repeat the request after Retry-After seconds. The headers RateLimit-Policy and RateLimit name the limit and what is left of it.',
  },
  'principal-backlog-full': {
    status: 429,
    title: 'Too many jobs of this principal are waiting',
    remedy: 'Nothing was stored. Repeat the request after Retry-After seconds, when some of your jobs have started.',
  },
  'bad-request': {
    status: 400,
    title: 'The request is malformed',
    remedy: 'Correct the mistake that the member `detail` describes.',
  },
  'internal-error': {
    status: 500,
    title: 'Internal error',
    remedy: 'Nothing was stored. Try again later. The cause is in the log of the API.',
  },
  'invalid-message': {
    status: 400,
    title: 'The message is invalid',
    remedy: 'Send `{"subscribe":["<job id>"]}` or `{"unsubscribe":["<job id>"]}` as a text frame.',
  },
  overloaded: {
    status: 503,
    title: 'This API process has too much to do',
    remedy: 'Nothing was stored. Repeat the request after Retry-After seconds, with its Idempotency-Key if it has one.',
  },
  'backlog-full': {
    status: 503,
    title: 'The backlog of this operation is full',
    remedy: 'Nothing was stored. Repeat the request after Retry-After seconds.',
  },
  'job-locked': {
    status: 503,
    title: 'The job is being settled',
    remedy: 'Nothing was changed. Repeat the request after Retry-After seconds.',
  },
  'schema-outdated': {
    status: 503,
    title: 'The database schema does not match this version of Accepted',
    remedy: 'Run `accepted migrate`. No restart is needed.',
  },
  'authentication-unavailable': {
    status: 503,
    title: 'The credential cannot be checked at the moment',
    remedy: 'Repeat the request after Retry-After seconds, with its Idempotency-Key if it has one.',
  },
  'database-unavailable': {
    status: 503,
    title: 'The database does not answer',
    remedy: 'Repeat the request after Retry-After seconds, with its Idempotency-Key if it has one.',
  },
} as const satisfies Record<string, { status: number; title: string; remedy: string }>

export type ProblemCode = keyof typeof problems
