import type { ColumnType } from 'kysely'

/** A time that is never null. An insert may leave it out. */
export type Timestamp = ColumnType<Date, Date | string | undefined, Date | string>

/** A time that is never null. An insert must set it. */
export type RequiredTimestamp = ColumnType<Date, Date | string, Date | string>

/** A time that may be null. */
export type OptionalTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>

/** How many children a job has. */
export interface ChildCounts {
  total: number
  succeeded: number
  failed: number
  canceled: number
}

/** How a batch has ended. */
export interface BatchOutcome extends ChildCounts {
  /** The id of the batch. */
  id: string
}

/** The value of `accepted.job.error`. The text is for operators and contains no credentials. */
export interface JobErrorColumn {
  code: string
  message: string
  /** The handler has thrown `JobFailed`: clients see the code, the message and the details. */
  public?: true
  /** The HTTP status (4xx) that the result URL answers with, if the handler has set a status. */
  status?: number
  details?: readonly unknown[]
  /** With the code `children-failed`: the child that failed first, or else the child that was canceled first. */
  child?: FailedChild
}

/** A child that keeps its parent from succeeding. */
export interface FailedChild {
  id: string
  operation: string
  status: 'failed' | 'canceled'
  /** Set when the status is `failed`. */
  error?: Pick<JobErrorColumn, 'code' | 'message' | 'public'>
}
