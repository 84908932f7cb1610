// The same from CommonJS.
import accepted = require('accepted')
import client = require('accepted/client')
import perform = require('accepted/perform')
import worker = require('accepted/worker')

export = { accepted, client, perform, worker }
