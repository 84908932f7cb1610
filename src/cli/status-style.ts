import type { JobStatus } from '../db/tables.ts'
import type { Style } from './table.ts'

/** The style of each status of a job on a terminal. */
export const statusStyles: Readonly<Record<JobStatus, Style>> = {
  queued: 'yellow',
  running: 'cyan',
  succeeded: 'green',
  failed: 'red',
  canceled: 'gray',
}
