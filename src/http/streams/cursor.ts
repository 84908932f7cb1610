import type { Job } from '../../jobs/job.ts'

/** A client's position in the changes of all its jobs. */
export interface EventCursor {
  /** The client has received every change before this time. */
  since: Date
  /** The job of the last event that it received. */
  jobId: string
  /** That job's sequence in the event. */
  sequence: string
}

/** A client with an older cursor gets a snapshot instead of the changes that it missed. */
const maxCursorAgeMs = 10 * 60 * 1_000

const cursorPattern = /^(\d{1,15})_([0-9a-f-]{36})_(\d{1,19})$/

/** The id of an event on `/events`, opaque to clients. A client that resumes from one without `since` gets a snapshot. */
export const encodeEventCursor = ({ id, sequence }: Job, since: Date | undefined): string =>
  Buffer.from(`${since?.getTime() ?? 0}_${id}_${sequence}`).toString('base64url')

/** Reads the id of an event; undefined if it is malformed or too old. */
export function decodeEventCursor(id: string | undefined, now = Date.now()): EventCursor | undefined {
  const [, since, jobId, sequence] =
    Buffer.from(id ?? '', 'base64url')
      .toString()
      .match(cursorPattern) ?? []
  if (!since || !jobId || !sequence || Math.abs(now - Number(since)) > maxCursorAgeMs) return undefined
  return { since: new Date(Number(since)), jobId, sequence }
}
