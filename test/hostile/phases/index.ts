import type { Phase } from '../phase.ts'
import { failingJobs } from './failing-jobs.ts'
import { generatedRequests } from './generated-requests.ts'
import { largeResults } from './large-results.ts'
import { nothing } from './nothing.ts'
import { pipelining } from './pipelining.ts'
import { slowSenders } from './slow-senders.ts'
import { unreadAnswers } from './unread-answers.ts'
import { webSocketFrames } from './websocket-frames.ts'

export const phases: readonly Phase[] = [
  nothing,
  generatedRequests,
  pipelining,
  webSocketFrames,
  unreadAnswers,
  largeResults,
  failingJobs,
  slowSenders,
]
