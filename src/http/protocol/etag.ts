import type { Job } from '../../jobs/job.ts'

/** The entity tag of a job's JSON representation. */
export const etagOf = (job: Pick<Job, 'sequence'>): string => `"${job.sequence}"`

/** Whether If-None-Match is `*` or lists the tag. Compares weakly (RFC 9110, sections 8.8.3.2 and 13.1.2). */
export function matchesWeakly(ifNoneMatch: string, etag: string): boolean {
  return ifNoneMatch.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}

/** Whether If-Match is absent, `*`, or lists the tag. Compares strongly (RFC 9110, section 13.1.1). */
export function matchesStrongly(ifMatch: string | undefined, etag: string): boolean {
  if (ifMatch === undefined || ifMatch.trim() === '*') return true
  return ifMatch.split(',').some((tag) => tag.trim() === etag)
}
