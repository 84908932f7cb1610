/** The URLs at which clients reach the API. They have no trailing slash. */
export interface Site {
  /** The URL below which the routes of the operations and the resources of the jobs are found. */
  url: string
  /** The URL of the job list. The URLs of the jobs are below it. */
  jobs: string
}

/** The path of the job list, unless the app chooses another path. */
export const defaultJobsPath = '/jobs'

/**
 * Returns the site at a base URL.
 *
 * @param url scheme, host and optionally a path; a trailing slash is ignored
 */
export function siteAt(url: string, jobsPath: string = defaultJobsPath): Site {
  const base = url.replace(/\/$/, '')
  return { url: base, jobs: base + jobsPath }
}

/** Returns the status URL of a job. It answers 200 as long as the record exists. */
export const monitorUrl = ({ jobs }: Site, id: string): string => `${jobs}/${id}`

/** Returns the URL of the list of a job's children. */
export const childrenUrl = ({ jobs }: Site, id: string): string => `${jobs}?parent=${id}`

/** Returns the result URL of a job. It answers 202 while the job is pending, and then with the outcome. */
export const resultUrl = (site: Site, id: string): string => `${monitorUrl(site, id)}/result`
