/** A job that will never succeed, as an operation's `abandon` gets it. */
export interface AbandonedJob<Payload = unknown> {
  id: string
  /**
   * The payload as it was accepted. Not checked against the schema: with the error `invalid-payload`, it does not match.
   * With the error `queue-lost`, it may be null, if the job was accepted before its operation had `abandon`.
   */
  payload: Payload
  /** The principal that submitted the job. */
  principal: string
  /** The path of the resource that `accept` returned. */
  resource: string | undefined
  /** The status that the job gets in the same transaction. */
  status: 'failed' | 'canceled'
  /** Why the job failed; undefined when it was canceled. */
  error: AbandonedJobError | undefined
}

/** Why a job failed. */
export interface AbandonedJobError {
  /** The code that the status URL shows, for example `handler-error`, or the code of a `JobFailed`. */
  code: string
  /** The message of the error that the handler threw, without credentials. Clients may see a more general sentence. */
  message: string
  /** The HTTP status of a `JobFailed`. */
  status?: number
  /** The details of a `JobFailed`. */
  details?: readonly unknown[]
}
