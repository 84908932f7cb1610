import type { Row } from '../stage.ts'
import { bouncers, clock } from './environment.ts'
import { failover } from './failover.ts'
import { badInput } from './input.ts'
import { limits } from './limits.ts'
import { network } from './network.ts'
import { poison } from './poison.ts'
import { backends, postgresCrash, races } from './postgres.ts'
import { apiKills, deploy, kills, oneKey, stoppedWorkers, workerDies } from './processes.ts'

/** The matrix. In the first row processes end in order, and leave what they have compiled to all that come after. */
export const rows: readonly Row[] = [
  deploy,
  kills,
  apiKills,
  ...workerDies,
  ...stoppedWorkers,
  oneKey,
  postgresCrash,
  backends,
  ...races,
  ...network,
  ...limits,
  clock,
  ...bouncers,
  badInput,
  poison,
  failover,
]
