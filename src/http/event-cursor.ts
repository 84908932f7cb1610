import type { Job } from '../jobs/job.ts'

/** Where a client is in the changes of all its jobs. */
export interface EventCursor {
  /** It has been told of everything that changed before then. */
  since: Date
  /** And last of this. */
  jobId: string
  sequence: string
}

/** Older ones are worth no more than a fresh snapshot, in milliseconds. */
const longestResume = 10 * 60 * 1_000

const shape = /^(\d{1,15})_([0-9a-f-]{36})_(\d{1,19})$/

/** The id of an event of all jobs; opaque to clients. Without `since` it leads to a fresh snapshot. */
export const encodeCursor = ({ id, sequence }: Job, since: Date | undefined): string =>
  Buffer.from(`${since?.getTime() ?? 0}_${id}_${sequence}`).toString('base64url')

/** Reads the id of an event; undefined when it is none of ours, or too old. */
export function decodeCursor(id: string | undefined, now = Date.now()): EventCursor | undefined {
  const [, since, jobId, sequence] =
    Buffer.from(id ?? '', 'base64url')
      .toString()
      .match(shape) ?? []
  if (!since || !jobId || !sequence || Math.abs(now - Number(since)) > longestResume) return undefined
  return { since: new Date(Number(since)), jobId, sequence }
}
