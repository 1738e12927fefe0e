// A page in a running search looks for news by loading itself in a hidden frame. That copy only hands its data to
// the page around it, before the rest of the file is read.
if (window.parent !== window && location.hash === "#probe") {
  window.parent.postMessage({ tinynas: document.getElementById("data").textContent }, "*");
  window.stop();
}
