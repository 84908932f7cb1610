/** When failed attempts are retried. */
export interface Retry {
  /** Number of retries after the first attempt. Default: 3. */
  limit: number
  /** Seconds before the first retry. With `backoff`, a random time up to as long is added. Default: 1. */
  delaySeconds: number
  /** Whether the delay doubles with each retry. Default: true. */
  backoff: boolean
  /** Maximum delay in seconds when `backoff` is true. Default: 60. */
  maxDelaySeconds: number
}

/** How requests that ask for the same work share one job. */
export interface Coalesce<Input = unknown, Params = unknown> {
  /**
   * Returns the coalescing key of a request: 1 to 255 characters. Requests of the same principal for the same operation
   * share a job if they have the same key.
   */
  key: (input: Input, params: Params) => string
  /** How long requests share a job, in seconds, from the first request on. At most 31,622,400 (366 days). */
  forSeconds: number
  /**
   * With `first`, the job of the first request runs at once, and later requests only get this job. With `last`, the job
   * runs at the end of the window, with the payload of the last request.
   */
  mode: 'first' | 'last'
}

/** How many jobs may start and run, over all workers. Requires `rate` or `concurrency`. */
export interface Limit<Payload = unknown> {
  /**
   * Returns the limit key of a job: 1 to 255 characters. Each key has a limit of its own, and keys take turns. Default:
   * one limit for the operation.
   */
  key?: (payload: Payload) => string
  /**
   * How many attempts may start per period, evenly spaced: a number, a slash and a period, for example `100/1m` or
   * `5/10s`. Units: `s`, `m`, `h`, `d`. Default: unlimited.
   */
  rate?: string
  /** How many jobs may run at the same time. Default: unlimited. */
  concurrency?: number
}

/** The HTTP route that accepts an operation. */
export interface Route {
  method: 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** A path in Fastify's syntax, for example `/todos/:id/reminders`. */
  url: string
}
