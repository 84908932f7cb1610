import type { Row } from '../stage.ts'
import { deaths } from './deaths.ts'
import { bouncers, clock } from './environment.ts'
import { failover } from './failover.ts'
import { groups } from './groups.ts'
import { carelessHandler, hogging } from './handlers.ts'
import { badInput } from './input.ts'
import { limits } from './limits.ts'
import { network } from './network.ts'
import { poison } from './poison.ts'
import { backends, postgresCrash, races } from './postgres.ts'
import { apiKills, deploy, kills, oneKey, stoppedWorkers, workerDies } from './processes.ts'
import { redrives } from './redrive.ts'
import { schedule } from './schedule.ts'

/** The matrix. In the first row processes end in order, and leave what they have compiled to all that come after. */
export const rows: readonly Row[] = [
  deploy,
  kills,
  apiKills,
  ...workerDies,
  ...deaths,
  ...stoppedWorkers,
  oneKey,
  groups,
  schedule,
  redrives,
  postgresCrash,
  backends,
  ...races,
  ...network,
  ...limits,
  clock,
  ...bouncers,
  badInput,
  poison,
  hogging,
  carelessHandler,
  failover,
]
