import type { Job } from '../../jobs/job.ts'

/** Returns the entity tag of a job's JSON representation. */
export const etagOf = (job: Pick<Job, 'sequence'>): string => `"${job.sequence}"`

/** Returns whether If-None-Match is `*` or lists the tag. The comparison is weak (RFC 9110, 8.8.3.2 and 13.1.2). */
export function matchesWeakly(ifNoneMatch: string, etag: string): boolean {
  return ifNoneMatch.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag)
}

/** Returns whether If-Match is absent, is `*` or lists the tag. The comparison is strong (RFC 9110, 13.1.1). */
export function matchesStrongly(ifMatch: string | undefined, etag: string): boolean {
  if (ifMatch === undefined || ifMatch.trim() === '*') return true
  return ifMatch.split(',').some((tag) => tag.trim() === etag)
}
