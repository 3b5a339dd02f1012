
(function () {
  "use strict";
  var d = JSON.parse(document.getElementById("hours").textContent);
  function chart(id, label, values, colour) {
    var place = document.getElementById(id);
    new uPlot({
      width: Math.max(320, place.clientWidth), height: 220,
      tzDate: function (ts) { return uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"); },
      scales: { y: { range: function (u, min, max) { return [0, Math.max(1, max * 1.05)]; } } },
      series: [{}, { label: label, stroke: colour, fill: colour + "55", paths: uPlot.paths.bars({ size: [0.8, 60], align: 1 }), points: { show: false } }]
    }, [d.start, values], place);
  }
  chart("calls", "operations an hour", d.calls, "#2b6cb0");
  chart("failed", "errors an hour", d.failed, "#c53030");
  chart("records", "records in clear an hour", d.records, "#6b46c1");
})();
