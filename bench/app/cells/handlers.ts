import { defineHandlers } from 'accepted/worker'
import { runJob } from '../../contenders/cell-process.ts'
import * as operations from './operations.ts'

const perform = ({ payload }: { payload: { sequence: number } }) => runJob(payload.sequence)

const concurrency = 100

export default defineHandlers(operations, {
  'cell.first': { perform, concurrency },
  'cell.second': { perform, concurrency },
  'cell.third': { perform, concurrency },
  'cell.fourth': { perform, concurrency },
})
