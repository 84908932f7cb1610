import type { Row } from '../stage.ts'
import { backends, postgresCrash, races } from './postgres.ts'
import { apiKills, deploy, kills, oneKey, stoppedWorkers, workerDies } from './processes.ts'

/** The matrix. */
export const rows: readonly Row[] = [
  kills,
  apiKills,
  ...workerDies,
  ...stoppedWorkers,
  oneKey,
  deploy,
  postgresCrash,
  backends,
  ...races,
]
