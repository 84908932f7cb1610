/** When failed attempts are retried. */
export interface Retry {
  /** Number of retries after the first attempt. Default: 3. */
  limit: number
  /** Seconds before the first retry. Default: 1. */
  delaySeconds: number
  /** Whether the delay doubles with each retry, with jitter. Default: true. */
  backoff: boolean
  /** Maximum delay in seconds when `backoff` is true. Default: 60. */
  maxDelaySeconds: number
}

/** The HTTP route that accepts an operation. */
export interface Route {
  method: 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** A path in Fastify's syntax, for example `/todos/:id/reminders`. */
  url: string
}
