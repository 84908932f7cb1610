import type { Scenario } from '../core/scenario.ts'
import { accepts } from './s1-accepts.ts'
import { acceptLatency } from './s2-accept-latency.ts'
import { drain } from './s3-drain.ts'
import { drainRows } from './s4-drain-rows.ts'
import { pickup } from './s5-pickup.ts'
import { postToTerminalEvent } from './s6-post-to-event.ts'
import { backlogs } from './s7-backlog.ts'
import { idling } from './s8-idle.ts'
import { watchers } from './s9-watchers.ts'
import { partitionDrops } from './s10-partition-drop.ts'
import { heldSnapshot } from './s11-held-snapshot.ts'
import { soaking } from './s12-soak.ts'
import { views } from './s13-views.ts'
import { drainBatch } from './s14-drain-batch.ts'
import { acceptBatch } from './s15-accept-batch.ts'
import { turns } from './s16-turns.ts'
import { webhooks } from './s17-webhooks.ts'
import { processes } from './s18-processes.ts'
import { nineCells } from './s19-cells.ts'
import { features } from './s20-features.ts'

export const scenarios: readonly Scenario[] = [
  accepts,
  acceptLatency,
  drain,
  drainRows,
  pickup,
  postToTerminalEvent,
  backlogs,
  idling,
  watchers,
  partitionDrops,
  heldSnapshot,
  soaking,
  views,
  drainBatch,
  acceptBatch,
  turns,
  webhooks,
  processes,
  nineCells,
  features,
]
