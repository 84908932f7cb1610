import { setTimeout as delay } from 'node:timers/promises'
import type { Phase } from '../phase.ts'

const durationMs = 5_000

export const nothing: Phase = {
  name: 'nothing',
  summary: 'only the bystander; shows how fast this machine is at the moment',
  run: (attack) => delay(attack.scaled(durationMs)),
}
