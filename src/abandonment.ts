/** A job that will never succeed. An operation's `abandon` gets such jobs. */
export interface AbandonedJob<Payload = unknown> {
  /** A UUIDv7. A retry of the job has another id. */
  id: string
  /**
   * The payload. It is not checked against the schema, and a job that was enqueued with SQL may have any payload. It is
   * null if the error is `queue-lost` and the job was accepted before its operation had `abandon`.
   */
  payload: Payload
  /** The principal that submitted the job. */
  principal: string
  /** The path of the resource that `accept` returned. */
  resource: string | undefined
  /** The status that the job gets in this transaction. */
  status: 'failed' | 'canceled'
  /** Why the job failed; undefined when it was canceled. */
  error: AbandonedJobError | undefined
}

/** Why a job failed. */
export interface AbandonedJobError {
  /** The code that the monitor shows: that of a `JobFailed`, or for example `handler-error` or `children-failed`. */
  code: string
  /**
   * Why the job failed, without credentials. For `handler-error`, the message of the error that the handler threw.
   * Clients see only a general sentence, unless the handler threw a `JobFailed`.
   */
  message: string
  /** The HTTP status of a `JobFailed`. */
  status?: number
  /** The details of a `JobFailed`. For `children-failed`: the child that failed first, as the monitor shows it. */
  details?: readonly unknown[]
}
