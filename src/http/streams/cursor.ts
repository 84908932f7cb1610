import type { Job } from '../../jobs/job.ts'

/** A client's position in the stream of changes of all its jobs. */
export interface EventCursor {
  /** The client has received every change before this time. */
  since: Date
  /** The id of the job in the last event that the client received. */
  jobId: string
  /** The sequence of the job in that event. */
  sequence: string
}

/** A client with an older cursor gets a snapshot instead of the missed changes. */
const maxCursorAgeMs = 10 * 60 * 1_000

const cursorPattern = /^(\d{1,15})_([0-9a-f-]{36})_(\d{1,19})$/

/** Creates the id of an event on `/events`. If a client resumes from an id without `since`, it gets a snapshot. */
export const encodeEventCursor = ({ id, sequence }: Job, since: Date | undefined): string =>
  Buffer.from(`${since?.getTime() ?? 0}_${id}_${sequence}`).toString('base64url')

/** Decodes the id of an event. Returns undefined if the id is malformed or too old. */
export function decodeEventCursor(id: string | undefined, now = Date.now()): EventCursor | undefined {
  const [, since, jobId, sequence] =
    Buffer.from(id ?? '', 'base64url')
      .toString()
      .match(cursorPattern) ?? []
  if (!since || !jobId || !sequence || Math.abs(now - Number(since)) > maxCursorAgeMs) return undefined
  return { since: new Date(Number(since)), jobId, sequence }
}
