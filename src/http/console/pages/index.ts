import type { ConsolePage } from '../page.ts'
import { bulkPage } from './bulk.ts'
import { jobPage } from './job.ts'
import { jobsPage } from './jobs.ts'
import { operationsPage } from './operations.ts'
import { overviewPage } from './overview.ts'
import { stuckPage } from './stuck.ts'
import { workersPage } from './workers.ts'

/** The pages of the console, in the order of the navigation. */
export const pages: readonly ConsolePage[] = [
  overviewPage,
  jobsPage,
  jobPage,
  bulkPage,
  operationsPage,
  workersPage,
  stuckPage,
]
