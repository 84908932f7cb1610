import type { Row } from '../row.ts'
import { abandonRow } from './abandon.ts'
import { backup } from './backup.ts'
import { badInput } from './bad-input.ts'
import { clockSkew } from './clock-skew.ts'
import { duplicateKey } from './duplicate-key.ts'
import { failover } from './failover.ts'
import { batches, families } from './families.ts'
import { groupConcurrency } from './group-concurrency.ts'
import { blockedEventLoop, unawaitedStatements } from './handlers.ts'
import { limits } from './limits.ts'
import { networkRows } from './network.ts'
import { workerPausedInPerform, workerPausedInSettle } from './paused-workers.ts'
import { pgbouncerRows } from './pgbouncer.ts'
import { poisonJobs } from './poison-jobs.ts'
import { contentionRows, postgresCrash, terminatedBackends } from './postgres.ts'
import { apiKills, processKills } from './process-kills.ts'
import { redrive } from './redrive.ts'
import { rollingDeploy } from './rolling-deploy.ts'
import { rollingUpgrade } from './rolling-upgrade.ts'
import { schedule } from './schedule.ts'
import { tableLocks } from './table-locks.ts'
import { tableMaintenance } from './table-maintenance.ts'
import { workerDeaths } from './worker-deaths.ts'

/**
 * The rows of the fault matrix. The first row lets its processes exit cleanly, which writes the compile cache for the
 * processes of all other rows.
 */
export const rows: readonly Row[] = [
  rollingDeploy,
  rollingUpgrade,
  processKills,
  apiKills,
  ...workerDeaths,
  workerPausedInPerform,
  workerPausedInSettle,
  duplicateKey,
  groupConcurrency,
  schedule,
  abandonRow,
  families,
  batches,
  redrive,
  postgresCrash,
  terminatedBackends,
  ...contentionRows,
  ...networkRows,
  ...limits,
  tableLocks,
  tableMaintenance,
  backup,
  clockSkew,
  ...pgbouncerRows,
  badInput,
  poisonJobs,
  blockedEventLoop,
  unawaitedStatements,
  failover,
]
