import type { ConsolePage } from '../page.ts'
import { auditPage } from './audit.ts'
import { bulkPage } from './bulk.ts'
import { jobPage } from './job.ts'
import { jobsPage } from './jobs.ts'
import { operationsPage } from './operations.ts'
import { overviewPage } from './overview.ts'
import { schedulesPage } from './schedules.ts'
import { stuckPage } from './stuck.ts'
import { webhooksPage } from './webhooks.ts'
import { workersPage } from './workers.ts'

/** The pages of the console, in the order of the navigation. */
export const pages: readonly ConsolePage[] = [
  overviewPage,
  jobsPage,
  jobPage,
  bulkPage,
  operationsPage,
  workersPage,
  schedulesPage,
  webhooksPage,
  stuckPage,
  auditPage,
]
