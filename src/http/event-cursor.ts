import type { Job } from '../jobs/job.ts'

/** Where a client is in the changes of all its jobs: after this one. */
export interface EventCursor {
  updatedAt: Date
  jobId: string
  sequence: string
}

/** Older ones are worth no more than a fresh snapshot, in milliseconds. */
const longestResume = 60 * 60 * 1_000

const shape = /^(\d{1,15})_([0-9a-f-]{36})_(\d{1,19})$/

/** The id of an event of all jobs; opaque to clients. */
export const encodeCursor = ({ updated_at, id, sequence }: Job): string =>
  Buffer.from(`${updated_at.getTime()}_${id}_${sequence}`).toString('base64url')

/** Reads the id of an event; undefined when it is none of ours, or too old. */
export function decodeCursor(id: string | undefined, now = Date.now()): EventCursor | undefined {
  const [, updatedAt, jobId, sequence] =
    Buffer.from(id ?? '', 'base64url')
      .toString()
      .match(shape) ?? []
  if (!updatedAt || !jobId || !sequence || Number(updatedAt) < now - longestResume) return undefined
  return { updatedAt: new Date(Number(updatedAt)), jobId, sequence }
}
