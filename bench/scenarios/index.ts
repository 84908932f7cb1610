import type { Scenario } from '../core/scenario.ts'
import { accepts } from './s1-accepts.ts'

export const scenarios: readonly Scenario[] = [accepts]
