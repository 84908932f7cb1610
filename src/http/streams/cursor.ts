import { type ChangePosition, isChangePosition, shorten } from '../../jobs/change-position.ts'
import type { Job } from '../../jobs/job.ts'

/** A client's position in the stream of changes of all its jobs. */
export interface EventCursor {
  /** The client has received every change up to this position. */
  since: ChangePosition
  /** The id of the job in the last event that the client received. */
  jobId: string
  /** The sequence of the job in that event. */
  sequence: string
}

const cursorPattern = /^([\d:,]{1,300})_([0-9a-f-]{36})_(\d{1,19})$/

/** Creates the id of an event on `/events`. If a client resumes from an id without `since`, it gets a snapshot. */
export const encodeEventCursor = ({ id, sequence }: Job, since: ChangePosition | undefined): string =>
  Buffer.from(`${since === undefined ? '0' : shorten(since)}_${id}_${sequence}`).toString('base64url')

/** Decodes the id of an event. Returns undefined if the id is malformed or has no position. */
export function decodeEventCursor(id: string | undefined): EventCursor | undefined {
  const [, since, jobId, sequence] =
    Buffer.from(id ?? '', 'base64url')
      .toString()
      .match(cursorPattern) ?? []
  if (!since || !jobId || !sequence || !isChangePosition(since)) return undefined
  return { since, jobId, sequence }
}
