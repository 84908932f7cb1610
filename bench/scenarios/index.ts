import type { Scenario } from '../core/scenario.ts'
import { accepts } from './s1-accepts.ts'
import { drain } from './s3-drain.ts'
import { drainRows } from './s4-drain-rows.ts'
import { pickup } from './s5-pickup.ts'

export const scenarios: readonly Scenario[] = [accepts, drain, drainRows, pickup]
