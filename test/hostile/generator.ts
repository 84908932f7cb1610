/**
 * The process of the attackers: runs one phase and reports what it saw. It shares the machine with the API and
 * Postgres. A real attacker would have its own machines, so this process runs at a low priority.
 */
import { getPriority, setPriority } from 'node:os'
import { Attack, type AttackOptions } from './phase.ts'
import { phases } from './phases/index.ts'

const lowerBy = 5

process.once('message', async ({ name, options }: { name: string; options: AttackOptions }) => {
  setPriority(getPriority() + lowerBy)
  const attack = new Attack(options, (step) => void process.send?.({ step }))
  try {
    await phases.find((phase) => phase.name === name)?.run(attack)
  } catch (error) {
    attack.find(`The phase failed: ${(error as Error).stack}`)
  }
  process.send?.({ report: attack.report }, () => process.exit())
})
